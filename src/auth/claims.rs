//! What a token says of its holder, in the words of routes and policies.

use serde_json::Value;

/// Whether the claim `name` is `value`, has it among its items, or, being a string, among its words.
///
/// Dots in `name` lead into objects; a claim that is called just so, dots and all, comes first. Numbers and booleans are compared as
/// they are written. Nothing that is not there is ever equal to anything.
pub fn claim_is(claims: &Value, name: &str, value: &str) -> bool {
    find(claims, name).is_some_and(|claim| is(claim, value))
}

/// The claim `name`; see [`claim_is`].
pub(super) fn find<'c>(claims: &'c Value, name: &str) -> Option<&'c Value> {
    if let Some(claim) = claims.get(name) {
        return Some(claim);
    }
    let dots = name.char_indices().filter(|(_, c)| *c == '.');
    dots.map(|(at, _)| (&name[..at], &name[at + 1..]))
        .find_map(|(first, rest)| claims.get(first).and_then(|claim| find(claim, rest)))
}

fn is(claim: &Value, value: &str) -> bool {
    match claim {
        Value::String(text) => text == value || text.split(' ').any(|word| !word.is_empty() && word == value),
        Value::Array(items) => items.iter().any(|item| is_just(item, value)),
        one => is_just(one, value),
    }
}

/// Whether a single value is `value` as a whole.
fn is_just(claim: &Value, value: &str) -> bool {
    match claim {
        Value::String(text) => text == value,
        Value::Bool(flag) => value == if *flag { "true" } else { "false" },
        Value::Number(number) => number.to_string() == value,
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    }
}

/// A claim as the value of a header: text, numbers and booleans as they are, their arrays joined by commas, the rest as JSON. None
/// of null.
///
/// An array one of whose items has a comma is JSON as well: `["a,b"]` must not be taken for the two items that it is not.
pub(super) fn in_words(claim: &Value) -> Option<String> {
    match claim {
        Value::Null => None,
        Value::Array(items) => {
            let words: Option<Vec<String>> = items.iter().map(word).collect();
            let plain = words.filter(|words| words.iter().all(|word| !word.contains(',')));
            Some(plain.map_or_else(|| claim.to_string(), |words| words.join(",")))
        }
        one => Some(word(one).unwrap_or_else(|| claim.to_string())),
    }
}

fn word(claim: &Value) -> Option<String> {
    match claim {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(claim.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_claim_is_a_value_an_item_or_a_word() {
        let claims = json!({
            "sub": "ann", "scope": "orders stock", "level": 3, "admin": true, "ratio": 0.5,
            "groups": ["dev", "a b", 7, ["deep"]], "gone": null, "": "empty",
        });
        for (name, value) in [
            ("sub", "ann"),
            ("scope", "orders"),
            ("scope", "stock"),
            ("scope", "orders stock"),
            ("level", "3"),
            ("admin", "true"),
            ("ratio", "0.5"),
            ("groups", "dev"),
            ("groups", "a b"),
            ("groups", "7"),
        ] {
            assert!(claim_is(&claims, name, value), "{name} {value}");
        }
        for (name, value) in [
            ("sub", "an"),
            ("sub", "Ann"),
            ("scope", "order"),
            ("scope", ""),
            ("level", "3.0"),
            ("admin", "1"),
            ("groups", "a"),
            ("groups", "deep"),
            ("gone", "null"),
            ("gone", ""),
            ("none", ""),
        ] {
            assert!(!claim_is(&claims, name, value), "{name} {value}");
        }
    }

    #[test]
    fn a_claim_in_a_header_cannot_pass_for_another() {
        for (claim, expected) in [
            (json!("ann"), Some("ann")),
            (json!(""), Some("")),
            (json!(7), Some("7")),
            (json!(true), Some("true")),
            (json!(null), None),
            (json!(["a", 1, false]), Some("a,1,false")),
            (json!([]), Some("")),
            (json!(["a,b", "c"]), Some(r#"["a,b","c"]"#)),
            (json!(["a", ["b"]]), Some(r#"["a",["b"]]"#)),
            (json!({ "a": 1 }), Some(r#"{"a":1}"#)),
        ] {
            assert_eq!(in_words(&claim).as_deref(), expected, "{claim}");
        }
    }

    #[test]
    fn dots_lead_into_objects_and_a_name_with_dots_comes_first() {
        let claims = json!({
            "realm": { "roles": ["reader"], "of.it": "x", "sub": { "name": "s" } },
            "example.com/role": "boss",
            "a.b": "exact", "a": { "b": "inner" },
        });
        for (name, value) in [
            ("realm.roles", "reader"),
            ("realm.of.it", "x"),
            ("realm.sub.name", "s"),
            ("example.com/role", "boss"),
            ("a.b", "exact"),
        ] {
            assert!(claim_is(&claims, name, value), "{name} {value}");
        }
        for (name, value) in [("a.b", "inner"), ("realm", "reader"), ("realm.roles.0", "reader"), (".", "")] {
            assert!(!claim_is(&claims, name, value), "{name} {value}");
        }
    }
}
