//! Documents made of a schema, tame enough that nothing leaves the test's own place.

use crate::words::{self, Mood};
use coracle_tests::image::SMALL;
use coracle_tests::mutation::Random;
use coracle_tests::schema::{Operation, Schema};
use serde_json::{Map, Value, json};

/// Deepest schema that is followed.
const DEEPEST: usize = 6;

/// A document for an operation; `own` is the directory that may be bound.
pub(crate) fn document(
    operation: &Operation,
    schema: &Value,
    mood: Mood,
    own: &str,
    random: &mut Random,
) -> Value {
    let mut made = value("body", schema, mood, 0, random);
    if mood == Mood::Plausible {
        // Much that is plausible alone is not together.
        thin(&mut made, random);
    }
    if mood == Mood::Plausible || random.once_in(2) {
        let base = base(operation.name(), random);
        merge(&mut made, base);
    }
    if mood == Mood::Hostile && random.once_in(3) {
        spoil(&mut made, random);
    }
    tame(&mut made, own);
    made
}

/// What makes a document one that means something.
fn base(operation: &str, random: &mut Random) -> Value {
    match operation {
        "POST /containers/create" => json!({
            "Image": SMALL, "Cmd": ["sleep", "1000"],
            "HostConfig": {"NetworkMode": *random.pick(&["none", "none", "keeper-net"]), "Init": true}
        }),
        "POST /containers/{id}/exec" => json!({
            "Cmd": [*random.pick(&["true", "false", "id", "no-such-program"])], "AttachStdout": true
        }),
        "POST /exec/{id}/start" => json!({"Detach": random.once_in(2), "Tty": random.once_in(4)}),
        "POST /volumes/create" | "POST /networks/create" => {
            json!({"Name": words::text("name", Mood::Plausible, random), "Driver": null})
        }
        "POST /networks/{id}/connect" | "POST /networks/{id}/disconnect" => {
            json!({"Container": *random.pick(&["running", "stopped", "extra-1"])})
        }
        _ => json!({}),
    }
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (name, value) in from {
                match into.get_mut(&name) {
                    Some(known) if known.is_object() && value.is_object() => merge(known, value),
                    _ if value.is_null() => drop(into.remove(&name)),
                    _ => drop(into.insert(name, value)),
                }
            }
        }
        (into, from) => *into = from,
    }
}

fn value(name: &str, schema: &Value, mood: Mood, depth: usize, random: &mut Random) -> Value {
    if let Some(target) = schema["$ref"].as_str().and_then(|name| name.strip_prefix("#/definitions/")) {
        return value(name, Schema::get().definition(target), mood, depth, random);
    }
    if depth > DEEPEST {
        return Value::Null;
    }
    if let Some(values) = schema["enum"].as_array().filter(|_| mood != Mood::Hostile) {
        return random.pick(values).clone();
    }
    match schema["type"].as_str() {
        Some("string") => json!(words::text(name, mood, random)),
        Some("integer" | "number") => words::number(mood, random),
        Some("boolean") if mood == Mood::Hostile && random.once_in(2) => json!("maybe"),
        Some("boolean") => json!(random.once_in(2)),
        Some("array") => {
            let count = random.below(if mood == Mood::Boundary { 40 } else { 3 });
            (0..count).map(|_| value(name, &schema["items"], mood, depth + 1, random)).collect()
        }
        _ => object(schema, mood, depth, random),
    }
}

fn object(schema: &Value, mood: Mood, depth: usize, random: &mut Random) -> Value {
    let mut made = Map::new();
    for part in schema["allOf"].as_array().into_iter().flatten() {
        if let Value::Object(fields) = value("", part, mood, depth, random) {
            made.extend(fields);
        }
    }
    let properties = schema["properties"].as_object();
    for (name, field) in properties.into_iter().flatten() {
        // Few of many, or nothing would ever be accepted.
        let few = properties.map_or(1, |all| all.len() / 3).max(2);
        if random.once_in(if name == "HostConfig" { 2 } else { few }) {
            made.insert(name.clone(), value(name, field, mood, depth + 1, random));
        }
    }
    if let Some(additional) = schema.get("additionalProperties").filter(|additional| additional.is_object()) {
        for _ in 0..random.below(3) {
            let key = words::text("key", mood, random);
            made.insert(key, value("", additional, mood, depth + 1, random));
        }
    }
    Value::Object(made)
}

/// Leaves one or two fields of each object.
fn thin(made: &mut Value, random: &mut Random) {
    let Value::Object(fields) = made else { return };
    while fields.len() > 2 || (fields.len() == 2 && random.once_in(2)) {
        let name = fields.keys().nth(random.below(fields.len())).cloned().unwrap();
        fields.remove(&name);
    }
    fields.values_mut().for_each(|field| thin(field, random));
}

/// Puts something somewhere that does not belong there.
fn spoil(made: &mut Value, random: &mut Random) {
    let wrong = match random.below(6) {
        0 => deep(random.below(200)),
        1 => json!({"a": {"b": []}}),
        2 => json!([[], [null], [{"x": 1}]]),
        3 => json!("x".repeat(100_000)),
        4 => json!(12),
        _ => Value::Null,
    };
    match made {
        Value::Object(fields) if !fields.is_empty() && !random.once_in(4) => {
            let at = random.below(fields.len());
            if let Some((_, field)) = fields.iter_mut().nth(at) {
                if field.is_object() { spoil(field, random) } else { *field = wrong }
            }
        }
        Value::Object(fields) => drop(fields.insert("NoSuchField".to_owned(), wrong)),
        other => *other = wrong,
    }
}

fn deep(levels: usize) -> Value {
    (0..levels).fold(Value::Null, |inner, _| json!([inner]))
}

/// Takes out what would reach beyond the test: binds of other directories, privileges, devices, the host's namespaces.
fn tame(made: &mut Value, own: &str) {
    if let Value::Array(items) = made {
        items.iter_mut().for_each(|item| tame(item, own));
    }
    let Value::Object(fields) = made else { return };
    for (name, field) in fields.iter_mut() {
        match name.as_str() {
            "Privileged" => *field = json!(false),
            // Nobody listens there.
            "serveraddress" => *field = json!("127.0.0.1:9"),
            "Binds" => {
                for bind in field.as_array_mut().into_iter().flatten() {
                    if bind.as_str().is_some_and(|bind| bind.starts_with('/')) {
                        *bind = json!(format!("{own}:/mnt"));
                    }
                }
            }
            "Devices" | "DeviceRequests" | "DeviceCgroupRules" | "CgroupParent" | "SecurityOpt"
            | "DriverOpts" | "CapAdd" | "Sysctls" | "Runtime" => {
                *field = Value::Null;
            }
            _ => tame(field, own),
        }
    }
    if fields.contains_key("username") || fields.contains_key("password") {
        fields.insert("serveraddress".to_owned(), json!("127.0.0.1:9"));
    }
    if fields.get("Type").is_some_and(|kind| kind == "bind") {
        fields.insert("Source".to_owned(), json!(own));
    }
}
