//! What a token says of its bearer, compared with what is wanted.

use serde_json::Value;

/// Whether the claim `name` (dots lead into objects) is `value`, has it among its items, or among its words (as `scope` has, RFC 8693
/// 4.2). A claim whose own name has dots, as a URL has, is found by that first.
pub fn claim_is(claims: &Value, name: &str, value: &str) -> bool {
    find(claims, name).is_some_and(|claim| match claim {
        Value::String(text) => text == value || text.split(' ').any(|word| word == value),
        Value::Array(items) => items.iter().any(|item| is(item, value)),
        claim => is(claim, value),
    })
}

/// The claim `name` of `claims`.
pub fn find<'c>(claims: &'c Value, name: &str) -> Option<&'c Value> {
    let own = claims.as_object()?.get(name);
    own.or_else(|| {
        let inner = name.match_indices('.').find_map(|(dot, _)| {
            let object = claims.get(&name[..dot])?;
            find(object, &name[dot + 1..])
        });
        inner
    })
}

fn is(claim: &Value, value: &str) -> bool {
    match claim {
        Value::String(text) => text == value,
        Value::Number(number) => number.to_string() == value,
        Value::Bool(flag) => flag.to_string() == value,
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_claim_is_a_value_an_item_or_a_word() {
        let claims = json!({
            "scope": "orders users", "groups": ["admin", 7, ["nested"]], "level": 3, "staff": true, "none": null,
            "realm": { "roles": ["buyer"], "deep": { "a": "b" } }, "https://x.example/team": "shop", "a.b": "c",
        });
        for (name, value) in [
            ("scope", "orders"),
            ("scope", "users"),
            ("scope", "orders users"),
            ("groups", "admin"),
            ("groups", "7"),
            ("level", "3"),
            ("staff", "true"),
            ("realm.roles", "buyer"),
            ("realm.deep.a", "b"),
            ("https://x.example/team", "shop"),
            ("a.b", "c"),
        ] {
            assert!(claim_is(&claims, name, value), "{name} {value}");
        }
        for (name, value) in [
            ("scope", "order"),
            ("scope", ""),
            ("groups", "nested"),
            ("groups", "adm"),
            ("none", "null"),
            ("realm", "roles"),
            ("realm.deep", "a"),
            ("realm.roles.0", "buyer"),
            ("missing", ""),
            ("", ""),
        ] {
            assert!(!claim_is(&claims, name, value), "{name} {value}");
        }
        assert!(!claim_is(&json!("orders"), "scope", "orders"), "claims are an object");
    }
}
