//! The definition -> JSON Schema 2020-12, for editors.
//!
//! Keys that are not built yet are absent. What concerns several tables (names that lead nowhere, sockets that
//! overlap) no schema can say: `towpath check` does.

use serde_json::{Map, Value, json};

use super::{
    definition::{Choose, Key, Kind, Need, TableDef, Text},
    keys, wording,
};

/// The JSON Schema of a configuration file.
pub fn schema() -> String {
    let mut schema = table(&keys::ROOT);
    schema.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
    schema.insert("title".to_owned(), json!("towpath configuration"));
    format!("{:#}\n", Value::Object(schema))
}

fn table(def: &TableDef) -> Map<String, Value> {
    let properties: Map<String, Value> =
        def.built().map(|key| (key.name.to_owned(), Value::Object(property(key)))).collect();
    let required: Vec<&str> =
        def.built().filter(|key| matches!(key.need, Need::Required)).map(|key| key.name).collect();
    let mut schema = Map::new();
    schema.insert("type".to_owned(), json!("object"));
    schema.insert("description".to_owned(), json!(def.doc));
    schema.insert("properties".to_owned(), Value::Object(properties));
    schema.insert("additionalProperties".to_owned(), json!(false));
    if !required.is_empty() {
        schema.insert("required".to_owned(), json!(required));
    }
    if let Some(choose) = &def.choose {
        exclude(def, choose, &mut schema);
    }
    schema
}

/// `oneOf` where one must be present; otherwise no two of them.
fn exclude(def: &TableDef, choose: &Choose, schema: &mut Map<String, Value>) {
    let built = |key: &&&str| def.built().any(|other| other.name == **key);
    let keys: Vec<&str> = choose.keys.iter().filter(built).copied().collect();
    if choose.required {
        let one: Vec<Value> = keys.iter().map(|key| json!({ "required": [key] })).collect();
        schema.insert("oneOf".to_owned(), json!(one));
        return;
    }
    let pairs = keys.iter().enumerate().flat_map(|(index, a)| keys[index + 1..].iter().map(move |b| (a, b)));
    let none: Vec<Value> = pairs.map(|(a, b)| json!({ "not": { "required": [a, b] } })).collect();
    schema.insert("allOf".to_owned(), json!(none));
}

fn property(key: &Key) -> Map<String, Value> {
    let mut schema = kind(&key.kind);
    schema.insert("description".to_owned(), json!(key.doc));
    if let Need::Default(text) = key.need {
        schema.insert("default".to_owned(), json_of(text));
    }
    schema
}

/// The same value in JSON.
pub(super) fn json_of(toml_text: &str) -> Value {
    let table: Option<toml::Table> = format!("value = {toml_text}").parse().ok();
    let value = table.and_then(|mut table| table.remove("value"));
    value.and_then(|value| serde_json::to_value(value).ok()).unwrap_or_default()
}

fn kind(kind: &Kind) -> Map<String, Value> {
    let value = match kind {
        Kind::Text(syntax) => return text(*syntax),
        Kind::Table(def) => return table(def),
        Kind::Number { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::Percent => json!({ "type": "number", "minimum": 0, "maximum": 100 }),
        Kind::NumberOr(number, syntax) => json!({ "anyOf": [self::kind(number), text(*syntax)] }),
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::True => json!({ "const": true }),
        Kind::List { item, empty } => {
            json!({ "type": "array", "items": self::kind(item), "minItems": u8::from(!empty) })
        }
        Kind::Map { name, value, .. } => {
            json!({ "type": "object", "propertyNames": text(*name), "additionalProperties": self::kind(value) })
        }
        Kind::Or(syntax, def) if def.built().next().is_some() => {
            json!({ "anyOf": [text(*syntax), table(def)] })
        }
        Kind::Or(syntax, _) => return text(*syntax),
    };
    match value {
        Value::Object(schema) => schema,
        _ => Map::new(),
    }
}

fn text(syntax: Text) -> Map<String, Value> {
    let mut schema = Map::new();
    schema.insert("type".to_owned(), json!("string"));
    match syntax {
        Text::Choice(words) => {
            let built = words.iter().filter(|word| word.refused.is_none());
            let words: Vec<&str> = built.clone().map(|word| word.word).collect();
            schema.insert("enum".to_owned(), json!(words));
        }
        _ => {
            schema.insert("$comment".to_owned(), json!(wording::syntax(syntax)));
        }
    }
    if let Some(pattern) = pattern(syntax) {
        schema.insert("pattern".to_owned(), json!(pattern));
    }
    schema
}

/// Where an expression can say it; never stricter than the parser.
fn pattern(syntax: Text) -> Option<&'static str> {
    match syntax {
        Text::Name => Some("^[A-Za-z0-9._-]{1,128}$"),
        Text::Duration { .. } => Some("^[0-9]+(ms|s|m|h)$"),
        Text::Size { .. } => Some("^[0-9]+(B|KiB|MiB|GiB)$"),
        Text::Path | Text::PathPrefix => Some("^/[^?# ]*$"),
        Text::Method => Some("^[!#$%&'*+.^_`|~0-9A-Z-]+$"),
        Text::HeaderName => Some("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"),
        Text::HostTemplate => Some("\\{[Hh][Oo][Ss][Tt]\\}"),
        Text::DnsName | Text::Endpoint => Some(":[0-9]+$"),
        Text::Listen => Some("^unix:.|:[0-9]+$"),
        Text::Status => Some("^[1-5]([0-9][0-9]|[xX][xX])$"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_has_built_keys_only() {
        let schema: Value = serde_json::from_str(&schema()).unwrap();
        let route = &schema["properties"]["routes"]["items"]["properties"];
        assert_eq!(route["hosts"]["default"], json!(["*"]));
        assert!(route["match"]["items"]["properties"]["body"].is_null());
        assert_eq!(route["retry"]["properties"]["attempts"]["default"], json!(3));
        let service = &schema["properties"]["services"]["additionalProperties"];
        let protocol = &service["properties"]["protocol"]["enum"];
        assert_eq!(*protocol, json!(["auto", "http1", "http2"]));
        let sources = ["dns", "endpoints", "srv", "file"].map(|key| json!({ "required": [key] }));
        assert_eq!(service["oneOf"], json!(sources));
        assert_eq!(schema["required"], json!(["listeners"]));
    }
}
