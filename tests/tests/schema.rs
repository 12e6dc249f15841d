//! `docs/schema/` against the reports that the goldens show.

use serde_json::{Value, json};
// The included file finds these under `crate`, as it does at home.
use sockleak::render::{Json, Renderer};
use sockleak::{report, sanitize};
use sockleak_tests::schema::{COMMON, SCHEMAS, validate, validate_all, validators};

#[path = "../../sockleak-user/src/render/fixtures/mod.rs"]
mod fixtures;

fn rendered() -> Vec<(&'static str, String)> {
    let line = |report: &report::Report| {
        let mut out = Vec::new();
        Json.render(report, &mut out).expect("memory is enough");
        String::from_utf8(out).expect("JSON is UTF-8")
    };
    let reports = fixtures::all();
    reports
        .iter()
        .map(|(name, report)| (*name, line(report)))
        .collect()
}

#[test]
fn schemas_are_json_schema_2020_12() {
    let texts = SCHEMAS.iter().map(|(name, text)| (*name, *text));
    for (name, text) in texts.chain([("common", COMMON)]) {
        let schema: Value = serde_json::from_str(text).expect(name);
        assert_eq!(
            schema["$schema"], "https://json-schema.org/draft/2020-12/schema",
            "{name}"
        );
        assert_eq!(schema["$id"], format!("urn:sockleak:schema:1:{name}"));
        if let Err(error) = jsonschema::meta::validate(&schema) {
            panic!("{name}.json: {error}");
        }
    }
    let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/schema"));
    assert_eq!(
        files.expect("docs/schema exists").count(),
        SCHEMAS.len() + 1
    );
}

#[test]
fn every_report_is_described_in_full() {
    let mut kinds: Vec<_> = SCHEMAS.iter().map(|(kind, _)| *kind).collect();
    for (name, line) in rendered() {
        let object = validate(&line).unwrap_or_else(|error| panic!("{name}: {error:#}"));
        kinds.retain(|kind| object["type"] != *kind);
    }
    assert!(kinds.is_empty(), "no report of kind {kinds:?}");
}

/// A path of member names, such as `/processes/0/pid`, for every value inside `value`.
fn paths(value: &Value, at: &str, found: &mut Vec<String>) {
    let mut below = |name: &str, value: &Value| {
        let path = format!("{at}/{name}");
        paths(value, &path, found);
        found.push(path);
    };
    match value {
        Value::Object(members) => members.iter().for_each(|(name, value)| below(name, value)),
        Value::Array(items) => {
            for (n, item) in items.iter().enumerate() {
                below(&n.to_string(), item);
            }
        }
        _ => {}
    }
}

/// The schemas have teeth: an object with any one member missing, of another type, or with an
/// unknown neighbour is refused.
#[test]
fn every_member_matters() {
    let optional = ["sockets", "created_by", "hidden_examples", "what_if"];
    let mut tried = 0;
    for (name, line) in rendered() {
        let object: Value = serde_json::from_str(&line).expect("JSON");
        let mut all = Vec::new();
        paths(&object, "", &mut all);
        for path in all {
            let (parent, member) = path.rsplit_once('/').expect("paths start with a slash");
            let in_map = ["/hooks", "created_by", "events_dropped", "programs_missed"]
                .iter()
                .any(|map| parent.ends_with(map))
                || (object["type"] == "run" && parent == "/loss");
            let mut changed = object.clone();
            let Some(Value::Object(members)) = changed.pointer_mut(parent) else {
                continue; // an element of a list
            };
            tried += 1;

            let kept = members.insert(member.to_owned(), json!({"neither": "number nor text"}));
            let refused = validate(&changed.to_string()).is_err();
            assert!(refused, "{name}: {path} may be anything");

            let Some(Value::Object(members)) = changed.pointer_mut(parent) else {
                unreachable!("it was there a moment ago");
            };
            members.remove(member);
            let refused = validate(&changed.to_string()).is_err();
            let may_miss = optional.contains(&member) || in_map;
            assert!(refused != may_miss, "{name}: {path} missing: {refused}");

            let Some(Value::Object(members)) = changed.pointer_mut(parent) else {
                unreachable!("it was there a moment ago");
            };
            members.extend(kept.map(|value| (member.to_owned(), value)));
            members.insert("surprise".to_owned(), json!("?"));
            let refused = validate(&changed.to_string()).is_err();
            assert!(refused, "{name}: {parent}/surprise is not described");
        }
    }
    assert!(tried > 500, "only {tried} members were tried");
}

#[test]
fn raw_control_characters_are_refused() {
    let (_, line) = rendered().swap_remove(0);
    let mut object: Value = serde_json::from_str(&line).expect("JSON");
    object["processes"][0]["comm"] = json!("\u{1b}[31m");
    assert!(validate(&object.to_string()).is_err());
    object["processes"][0]["comm"] = json!("x\u{202e}y");
    assert!(validate(&object.to_string()).is_err());
}

/// What readers get: a later sockleak may print more, and an older schema still accepts it.
#[test]
fn the_published_schemas_accept_additions() {
    let open = validators(false).expect("the schemas are valid");
    for (name, line) in rendered() {
        let mut object: Value = serde_json::from_str(&line).expect("JSON");
        object["added_later"] = json!(1);
        let kind = object["type"].clone();
        let validator = open.iter().find(|(known, _)| kind == *known);
        let (_, validator) = validator.expect("every kind has a schema");
        assert!(validator.is_valid(&object), "{name}");
    }
}

#[test]
fn a_whole_output_is_checked_line_by_line() {
    let lines: String = rendered().into_iter().map(|(_, line)| line).collect();
    let objects = validate_all(&lines).expect("all are valid");
    assert_eq!(objects.len(), fixtures::all().len());
    assert!(validate_all("").is_err());
    assert!(validate_all("{}\n").is_err());
    assert!(validate_all(&format!("{lines}\nnot json\n")).is_err());
}

#[test]
fn the_fixtures_are_hostile() {
    assert!(sanitize::printable(fixtures::HOSTILE.as_bytes()) != fixtures::HOSTILE);
}
