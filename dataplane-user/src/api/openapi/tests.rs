//! Makes `docs/api.md` from the document, and looks whether the document is whole.

use std::fmt::Write;

use serde_json::{Map, Value};

use super::*;

/// Where the document's readable form is kept.
const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/api.md");

const HEAD: &str = "# HTTP API

Made from the document that the agent serves at `GET /openapi.json`. After a change of the API,
`SPANDREL_UPDATE_DOCS=1 cargo test --package spandrel --lib openapi` writes this file anew.

";

fn whole() -> Value {
    serde_json::from_str(&DOCUMENT).unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn fields(value: &Value) -> &Map<String, Value> {
    static NONE: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);
    value.as_object().unwrap_or(&NONE)
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// A text in one line of a table.
fn cell(text: &str) -> String {
    text.replace('\n', " ").replace('|', "\\|")
}

/// What a schema is, in a word or two; objects of their own are links.
fn kind(schema: &Value) -> String {
    if let Some(name) = text(&schema["$ref"]).strip_prefix("#/components/schemas/") {
        return format!("[{name}](#{})", name.to_lowercase());
    }
    let alternatives: Vec<_> = items(&schema["oneOf"]).iter().map(kind).collect();
    if !alternatives.is_empty() {
        return alternatives.join(" or ");
    }
    let names = match &schema["type"] {
        Value::String(name) => vec![name.as_str()],
        names => items(names).iter().map(text).collect(),
    };
    let one = |name: &&str| match *name {
        "array" => format!("list of {}", kind(&schema["items"])),
        "object" if schema["additionalProperties"].is_object() => {
            format!("map to {}", kind(&schema["additionalProperties"]))
        }
        "string" if schema["format"] == "date-time" => "moment".into(),
        name => name.into(),
    };
    match names.as_slice() {
        [] => "anything".into(),
        names => names.iter().map(one).collect::<Vec<_>>().join(" or "),
    }
}

fn call(path: &str, method: &str, operation: &Value, out: &mut String) {
    writeln!(out, "### {} {path}\n\n{}.", method.to_uppercase(), text(&operation["summary"])).unwrap();
    let description = text(&operation["description"]);
    if !description.is_empty() {
        writeln!(out, "{description}").unwrap();
    }
    let parameters = items(&operation["parameters"]);
    if !parameters.is_empty() {
        writeln!(out, "\n| parameter | in | type | |\n|---|---|---|---|").unwrap();
    }
    for parameter in parameters {
        let (name, place, about) = (&parameter["name"], &parameter["in"], &parameter["description"]);
        let (name, place, about) = (text(name), text(place), cell(text(about)));
        writeln!(out, "| `{name}` | {place} | {} | {about} |", kind(&parameter["schema"])).unwrap();
    }
    let body = &operation["requestBody"]["content"]["application/json"]["schema"];
    if !body.is_null() {
        writeln!(out, "\nBody: {}", kind(body)).unwrap();
    }
    writeln!(out, "\n| status | body | |\n|---|---|---|").unwrap();
    for (status, response) in fields(&operation["responses"]).iter().filter(|(_, response)| !is_refusal(response)) {
        let bodies = fields(&response["content"]);
        let bodies = bodies.iter().map(|(mime, content)| match (mime.as_str(), &content["schema"]) {
            ("application/json", schema) => kind(schema),
            (mime, Value::Null) => format!("`{mime}`"),
            (mime, schema) => format!("{} as `{mime}`", kind(schema)),
        });
        let bodies = bodies.collect::<Vec<_>>().join(", ");
        writeln!(out, "| {status} | {bodies} | {} |", cell(text(&response["description"]))).unwrap();
    }
    out.push('\n');
}

/// Whether a response is one of those that all calls have.
fn is_refusal(response: &Value) -> bool {
    kind(&response["content"]["application/json"]["schema"]) == "[ErrorBody](#errorbody)"
}

/// A schema's own fields and those of the objects that it takes in.
fn properties(schema: &Value) -> Vec<(&String, &Value)> {
    let own = fields(&schema["properties"]).iter();
    let parts = items(&schema["allOf"]).iter();
    own.chain(parts.clone().flat_map(|part| fields(&part["properties"]))).collect()
}

fn object(name: &str, schema: &Value, out: &mut String) {
    writeln!(out, "### {name}\n\n{}", text(&schema["description"])).unwrap();
    let taken_in = items(&schema["allOf"]).iter().filter(|part| part["$ref"].is_string());
    for part in taken_in {
        writeln!(out, "\nWith all fields of {}.", kind(part)).unwrap();
    }
    let properties = properties(schema);
    if !properties.is_empty() {
        writeln!(out, "\n| field | type | |\n|---|---|---|").unwrap();
    }
    for (field, schema) in properties {
        writeln!(out, "| `{field}` | {} | {} |", kind(schema), cell(text(&schema["description"]))).unwrap();
    }
    out.push('\n');
}

fn rendered(document: &Value) -> String {
    let mut out = String::from(HEAD);
    writeln!(out, "{}\n", text(&document["info"]["description"])).unwrap();
    writeln!(out, "| error | |\n|---|---|").unwrap();
    let responses = &document["paths"]["/networks"]["get"]["responses"];
    for (status, response) in fields(responses).iter().filter(|(_, response)| is_refusal(response)) {
        writeln!(out, "| {status} | {} |", text(&response["description"])).unwrap();
    }
    out.push('\n');
    for tag in items(&document["tags"]) {
        writeln!(out, "## {}\n\n{}\n", text(&tag["name"]), text(&tag["description"])).unwrap();
        for (path, methods) in fields(&document["paths"]) {
            for (method, operation) in fields(methods) {
                if items(&operation["tags"]).contains(&tag["name"]) {
                    call(path, method, operation, &mut out);
                }
            }
        }
    }
    writeln!(out, "## Objects\n").unwrap();
    for (name, schema) in fields(&document["components"]["schemas"]) {
        object(name, schema, &mut out);
    }
    out.truncate(out.trim_end().len());
    out + "\n"
}

#[test]
fn the_readable_form_is_up_to_date() {
    let rendered = rendered(&whole());
    if std::env::var_os("SPANDREL_UPDATE_DOCS").is_some() {
        std::fs::write(PATH, &rendered).unwrap();
    }
    let kept = std::fs::read_to_string(PATH).unwrap_or_default();
    let lines = rendered.lines().zip(kept.lines());
    let first = lines.clone().find(|(new, old)| new != old);
    assert!(
        kept == rendered,
        "docs/api.md is not what the API is: `SPANDREL_UPDATE_DOCS=1 cargo test --package spandrel --lib openapi` writes it; {first:?}"
    );
}

/// Every reference leads somewhere, every call says what it is and how it can fail.
#[test]
fn the_document_is_whole() {
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str).map(String::from));
                fields.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let document = whole();
    assert!(text(&document["openapi"]).starts_with("3.1"), "{}", document["openapi"]);
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(!found.is_empty());
    for reference in found {
        let pointer = reference.trim_start_matches('#');
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
    let calls = fields(&document["paths"]).iter().flat_map(|(path, methods)| {
        fields(methods).iter().map(move |(method, operation)| (format!("{method} {path}"), operation))
    });
    let calls: Vec<_> = calls.collect();
    assert!(calls.len() > 25, "{} calls", calls.len());
    for (name, operation) in calls {
        assert!(!text(&operation["summary"]).is_empty(), "{name} has no summary");
        let can_fail = !["get /_ping", "get /openapi.json"].contains(&name.as_str());
        assert_eq!(operation["responses"]["500"].is_object(), can_fail, "{name}");
        assert_eq!(items(&operation["tags"]).len(), 1, "{name}");
    }
}
