//! Methods that two readers could take differently.

/// What RFC 9110 and RFC 5789 define.
const DEFINED: [&str; 9] = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "CONNECT"];

/// Whether `method` is none of HTTP's, but some servers take it for one. Methods have a case (RFC 9110 9.1) for which not all
/// care: a rule on `DELETE` would be gone around with `delete`. `PRI` would be the preface of HTTP/2 to the server.
pub fn is_ambiguous(method: &str) -> bool {
    method == "PRI"
        || DEFINED.iter().any(|defined| defined.eq_ignore_ascii_case(method) && *defined != method)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_in_another_case_is_ambiguous() {
        for method in ["get", "Delete", "pATCH", "PRI"] {
            assert!(is_ambiguous(method), "{method}");
        }
        for method in ["GET", "PATCH", "QUERY", "query", "getall"] {
            assert!(!is_ambiguous(method), "{method}");
        }
    }
}
