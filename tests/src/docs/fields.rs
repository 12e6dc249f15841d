//! `docs/fields.md`, made of the schemas: what a field means is written once, in `docs/schema/*.json`.
//!
//! Beside `description` a property may have `x-plain`, its label in plain output, `x-from`, the place in the kernel
//! that it comes from, and `x-not`, what it does not say.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use crate::schema::{COMMON, SCHEMAS};

const HEAD: &str = "\
# Fields

Every field of every object that `--json` prints, by the `type` of the object. Made of
[docs/schema](schema) by `DOCS_UPDATE=1 cargo test -p sockleak-tests --test docs`; a test holds both against each other, and
others hold every line of output against the schemas.

A field that may be unknown is `null` then, never 0. *Plain* is what plain output calls it, *from* where in the kernel
it comes from. Names end in their unit: `_s` seconds, `_ns` nanoseconds, `_bytes`, `_pages` (of 4 KiB on x86-64),
`_per_min`, `_per_s`; what ends in nothing is a count, unless the text says otherwise. `a.b` is the member `b` of
`a`, `a[].b` that of each element of the list `a`.
";

/// The page.
///
/// # Errors
/// A property without a description, or a reference to nothing.
pub fn page() -> Result<String, String> {
    let parsed =
        |text: &str| serde_json::from_str::<Value>(text).map_err(|error| error.to_string());
    let common = parsed(COMMON)?;
    let shared = common["$defs"]
        .as_object()
        .ok_or("common.json has no $defs")?;
    let mut page = HEAD.to_owned();
    page.push_str("\nObjects: ");
    let kinds: Vec<String> = SCHEMAS
        .iter()
        .map(|(kind, _)| format!("[{kind}](#{kind})"))
        .collect();
    page.push_str(&kinds.join(", "));
    page.push_str(".\n\nParts of several of them: ");
    let parts: Vec<String> = (shared.iter())
        .filter(|(name, part)| has_members(part) && aliased(name, shared) == name.as_str())
        .map(|(name, _)| format!("[{}](#{})", title(name), anchor(name)))
        .collect();
    page.push_str(&parts.join(", "));
    page.push_str(".\n");
    for (kind, text) in SCHEMAS {
        let schema = parsed(text)?;
        let what = schema["title"].as_str().unwrap_or_default();
        let _ = write!(page, "\n## {kind}\n\n{what}.\n");
        let schema = expanded(&schema, &schema["$defs"]);
        section(&mut page, &schema, shared).map_err(|error| format!("{kind}: {error}"))?;
    }
    let parts = shared.iter().filter(|(_, part)| has_members(part));
    for (name, part) in parts.filter(|(name, _)| aliased(name, shared) == name.as_str()) {
        let what = part["description"].as_str().unwrap_or_default();
        let _ = write!(page, "\n## {}\n\n{what}\n", title(name));
        section(&mut page, part, shared).map_err(|error| format!("{name}: {error}"))?;
    }
    Ok(page)
}

/// A schema with its own definitions where it refers to them.
fn expanded(schema: &Value, own: &Value) -> Value {
    match schema {
        Value::Object(members) => {
            let target = members.get("$ref").and_then(Value::as_str);
            let target = target.and_then(|text| text.strip_prefix("#/$defs/"));
            let mut all = Map::new();
            if let Some(Value::Object(target)) = target.map(|name| expanded(&own[name], own)) {
                all.extend(target);
            }
            let members = members
                .iter()
                .filter(|(name, _)| *name != "$ref" || target.is_none());
            all.extend(members.map(|(name, member)| (name.clone(), expanded(member, own))));
            Value::Object(all)
        }
        Value::Array(items) => items.iter().map(|item| expanded(item, own)).collect(),
        other => other.clone(),
    }
}

/// A part that is nothing but another one is that.
fn aliased<'a>(name: &'a str, shared: &'a Map<String, Value>) -> &'a str {
    let part = shared
        .get(name)
        .filter(|part| !part["properties"].is_object());
    let same = part.and_then(|part| part["allOf"].as_array());
    match same.map(Vec::as_slice) {
        Some([only]) => reference(only).unwrap_or(name),
        _ => name,
    }
}

fn has_members(schema: &Value) -> bool {
    schema["properties"].is_object() || schema["allOf"].is_array()
}

fn title(name: &str) -> String {
    let name = match name.strip_suffix("_fields") {
        Some(part) => format!("fields of {part}"),
        None if SCHEMAS.iter().any(|(kind, _)| *kind == name) => format!("{name} in other objects"),
        None => name.to_owned(),
    };
    name.replace('_', " ")
}

fn anchor(name: &str) -> String {
    title(name).replace(' ', "-")
}

fn section(page: &mut String, schema: &Value, shared: &Map<String, Value>) -> Result<(), String> {
    let has = (schema["allOf"].as_array().into_iter().flatten())
        .filter_map(reference)
        .map(|name| format!("[{}](#{})", title(name), anchor(name)));
    let has: Vec<String> = has.collect();
    if !has.is_empty() {
        let _ = write!(page, "\nHas the {}.\n", has.join(" and the "));
    }
    let mut rows = Vec::new();
    members("", schema, shared, &mut rows)?;
    if rows.is_empty() {
        return Ok(());
    }
    page.push_str("\n| field | plain | meaning | from |\n|---|---|---|---|\n");
    for row in rows {
        let _ = writeln!(page, "{row}");
    }
    Ok(())
}

/// A row for each member of an object, and for those of what is in it and has no section of its own.
fn members(
    before: &str,
    schema: &Value,
    shared: &Map<String, Value>,
    rows: &mut Vec<String>,
) -> Result<(), String> {
    for (name, member) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{before}{name}");
        if member.get("const").is_some() && name == "type" {
            continue;
        }
        let (inner, path) = element(member, path);
        let named = alternatives(inner).iter().find_map(|one| reference(one));
        let target = named.map(|name| {
            shared
                .get(name)
                .ok_or_else(|| format!("{path}: there is no {name}"))
        });
        let target = target.transpose()?;
        let own = [member, inner]
            .into_iter()
            .find_map(|one| one["description"].as_str());
        let description = own.or_else(|| target.and_then(|one| one["description"].as_str()));
        let mut meaning = description
            .ok_or_else(|| format!("{path} has no description"))?
            .to_owned();
        if let (Some(name), Some(target)) = (named, target)
            && has_members(target)
        {
            let name = aliased(name, shared);
            let each = if path.ends_with("[]") { "Each: " } else { "" };
            let _ = write!(meaning, " {each}[{}](#{}).", title(name), anchor(name));
        }
        let words: Vec<String> = (inner["enum"].as_array().into_iter().flatten())
            .filter_map(Value::as_str)
            .map(|word| format!("`{word}`"))
            .collect();
        if !words.is_empty() {
            let _ = write!(meaning, " One of {}.", words.join(", "));
        }
        if let Some(not) = member["x-not"].as_str() {
            let _ = write!(meaning, " *Not said:* {not}");
        }
        let cell = |key: &str| member[key].as_str().unwrap_or_default().replace('|', "\\|");
        let (plain, from) = (cell("x-plain"), cell("x-from"));
        let meaning = meaning.replace('|', "\\|");
        rows.push(format!("| `{path}` | {plain} | {meaning} | {from} |"));
        for one in alternatives(inner) {
            members(&format!("{path}."), one, shared, rows)?;
            if let Some(values) = one
                .get("additionalProperties")
                .filter(|values| values.is_object())
            {
                members(&format!("{path}.*."), values, shared, rows)?;
            }
        }
    }
    Ok(())
}

/// What a list is of.
fn element(member: &Value, path: String) -> (&Value, String) {
    for one in alternatives(member) {
        if let Some(items) = one.get("items") {
            let is_list_of_objects = alternatives(items)
                .iter()
                .any(|one| reference(one).is_some() || one["properties"].is_object());
            if is_list_of_objects {
                return (items, format!("{path}[]"));
            }
        }
    }
    (member, path)
}

fn alternatives(schema: &Value) -> Vec<&Value> {
    match schema["anyOf"]
        .as_array()
        .or_else(|| schema["oneOf"].as_array())
    {
        Some(several) => several.iter().collect(),
        None => vec![schema],
    }
}

/// Labels of plain output that the schemas name (`x-plain`).
///
/// # Errors
/// A schema that is no JSON.
pub fn labels() -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    for text in SCHEMAS.iter().map(|(_, text)| *text).chain([COMMON]) {
        let schema: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        collect(&schema, &mut found);
    }
    Ok(found)
}

fn collect(schema: &Value, found: &mut Vec<String>) {
    match schema {
        Value::Object(members) => {
            for (name, member) in members {
                match member {
                    Value::String(label) if name == "x-plain" => found.push(label.clone()),
                    member => collect(member, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        _ => {}
    }
}

/// Name of the shared part that a schema refers to.
fn reference(schema: &Value) -> Option<&str> {
    let target = schema["$ref"].as_str()?;
    target.rsplit_once("/$defs/").map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rows(schema: &Value) -> Result<Vec<String>, String> {
        let shared = json!({
            "pid": {"type": "integer", "description": "A process."},
            "a_fields": {"description": "Parts.", "properties": {"x": {"description": "X."}}},
        });
        let mut rows = Vec::new();
        members(
            "",
            schema,
            shared.as_object().expect("an object"),
            &mut rows,
        )?;
        Ok(rows)
    }

    #[test]
    fn a_row_for_every_member_at_every_depth() {
        let schema = json!({"properties": {
            "type": {"const": "leak"},
            "n": {"type": "integer", "description": "How | many.", "x-plain": "N", "x-from": "sk", "x-not": "why."},
            "pid": {"anyOf": [{"$ref": "u#/$defs/pid"}, {"type": "null"}]},
            "list": {"type": "array", "description": "Some.", "items": {"type": "object", "properties": {
                "id": {"enum": ["a", "b"], "description": "Kind."},
                "part": {"$ref": "u#/$defs/a_fields"},
            }}},
            "by": {"description": "By name.", "additionalProperties": {"type": "object", "properties": {
                "why": {"description": "Why."},
            }}},
        }});
        assert_eq!(
            rows(&schema).expect("rows"),
            [
                "| `by` |  | By name. |  |",
                "| `by.*.why` |  | Why. |  |",
                "| `list[]` |  | Some. |  |",
                "| `list[].id` |  | Kind. One of `a`, `b`. |  |",
                "| `list[].part` |  | Parts. [fields of a](#fields-of-a). |  |",
                "| `n` | N | How \\| many. *Not said:* why. | sk |",
                "| `pid` |  | A process. |  |",
            ]
        );
    }

    #[test]
    fn own_definitions_are_put_in_place() {
        let schema =
            json!({"a": {"$ref": "#/$defs/x", "description": "A."}, "b": {"$ref": "urn#/$defs/x"}});
        let own = json!({"x": {"description": "X.", "items": {"$ref": "#/$defs/y"}}, "y": {"type": "null"}});
        assert_eq!(
            expanded(&schema, &own),
            json!({"a": {"description": "A.", "items": {"type": "null"}}, "b": {"$ref": "urn#/$defs/x"}})
        );
    }

    #[test]
    fn a_member_without_a_meaning_is_an_error() {
        for member in [json!({"type": "integer"}), json!({"$ref": "u#/$defs/none"})] {
            assert!(rows(&json!({"properties": {"n": member}})).is_err());
        }
    }
}
