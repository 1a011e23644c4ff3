//! Whether a value is what a schema says.

use super::{Fault, Schema};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Longest text of a value in a message, in bytes.
const SHOWN: usize = 80;

/// Everything that is wrong with a value: where, what, and what was found. `place` is where the value is.
pub(super) fn faults(
    schema: &Schema,
    node: &Value,
    value: &Value,
    place: &str,
) -> Vec<(String, Fault, String)> {
    let mut search = Search { schema, found: Vec::new() };
    search.value(node, value, place);
    search.found
}

struct Search<'a> {
    schema: &'a Schema,
    found: Vec<(String, Fault, String)>,
}

/// The fields of an object, of all parts that it is made of.
#[derive(Default)]
struct Fields<'a> {
    properties: BTreeMap<&'a str, &'a Value>,
    required: BTreeSet<&'a str>,
    additional: Option<&'a Value>,
    nullable: bool,
}

impl<'a> Search<'a> {
    fn fault(&mut self, place: &str, fault: Fault, found: impl Into<String>) {
        let mut found = found.into();
        found.truncate(found.floor_char_boundary(SHOWN));
        self.found.push((place.to_owned(), fault, found));
    }

    fn value(&mut self, node: &'a Value, value: &Value, place: &str) {
        let target = node["$ref"].as_str().and_then(|name| name.strip_prefix("#/definitions/"));
        if value.is_null() {
            if !self.is_nullable(node) {
                self.fault(place, Fault::Null, "");
            }
            return;
        }
        if let Some(name) = target {
            return self.value(self.schema.definition(name), value, name);
        }
        if node.get("allOf").is_some() {
            return self.parts(node, value, place);
        }
        match (node["type"].as_str(), value) {
            (Some("object"), Value::Object(object)) => self.object(node, object, place),
            // A schema without a type has one if it has fields.
            (None, Value::Object(object)) if node.get("properties").is_some() => {
                self.object(node, object, place);
            }
            (None, _) => {}
            (Some("array"), Value::Array(items)) => self.array(node, items, place),
            (Some("string"), Value::String(text)) => self.text(node, text, place),
            (Some("integer"), Value::Number(number)) if !number.is_f64() => self.integer(node, number, place),
            (Some("number"), Value::Number(_)) | (Some("boolean"), Value::Bool(_)) => {}
            (Some(wanted), other) => self.fault(place, Fault::Type, format!("{other}, not {wanted}")),
        }
    }

    fn is_nullable(&self, node: &Value) -> bool {
        if let Some(answer) = node["x-nullable"].as_bool() {
            return answer;
        }
        let target = node["$ref"].as_str().and_then(|name| name.strip_prefix("#/definitions/"));
        let parts = node["allOf"].as_array().map(Vec::as_slice).unwrap_or_default();
        target.is_some_and(|name| self.is_nullable(self.schema.definition(name)))
            || parts.iter().any(|part| self.is_nullable(part))
    }

    /// An `allOf`: an object of several parts, or one part that more is said about.
    fn parts(&mut self, node: &'a Value, value: &Value, place: &str) {
        let parts = node["allOf"].as_array().map(Vec::as_slice).unwrap_or_default();
        if let [part] = parts
            && node.get("properties").is_none()
        {
            return self.value(part, value, place);
        }
        match value {
            Value::Object(object) => self.object(node, object, place),
            other => self.fault(place, Fault::Type, format!("{other}, not an object")),
        }
    }

    fn fields(&self, node: &'a Value, fields: &mut Fields<'a>) {
        if let Some(name) = node["$ref"].as_str().and_then(|name| name.strip_prefix("#/definitions/")) {
            self.fields(self.schema.definition(name), fields);
        }
        for part in node["allOf"].as_array().map(Vec::as_slice).unwrap_or_default() {
            self.fields(part, fields);
        }
        if let Some(properties) = node["properties"].as_object() {
            fields.properties.extend(properties.iter().map(|(name, field)| (name.as_str(), field)));
        }
        if let Some(required) = node["required"].as_array() {
            fields.required.extend(required.iter().filter_map(Value::as_str));
        }
        fields.additional = fields.additional.or(node.get("additionalProperties"));
        fields.nullable |= node["x-nullable"] == true;
    }

    fn object(&mut self, node: &'a Value, object: &Map<String, Value>, place: &str) {
        let mut fields = Fields::default();
        self.fields(node, &mut fields);
        // An object of which nothing is said may hold anything.
        if fields.properties.is_empty() && fields.additional.is_none() {
            return;
        }
        for (name, value) in object {
            match (fields.properties.get(name.as_str()), fields.additional) {
                (Some(field), _) => self.value(field, value, &format!("{place}.{name}")),
                (None, Some(Value::Bool(true))) => {}
                (None, Some(additional)) if additional.is_object() => {
                    self.value(additional, value, &format!("{place}{{}}"));
                }
                (None, _) => self.fault(&format!("{place}.{name}"), Fault::Unknown, value.to_string()),
            }
        }
        for name in fields.required.iter().filter(|name| !object.contains_key(**name)) {
            self.fault(&format!("{place}.{name}"), Fault::Missing, "");
        }
    }

    fn array(&mut self, node: &'a Value, items: &[Value], place: &str) {
        let within = |bound: &str, fits: fn(u64, u64) -> bool| {
            node[bound].as_u64().is_none_or(|bound| fits(items.len() as u64, bound))
        };
        if !within("minItems", |count, bound| count >= bound)
            || !within("maxItems", |count, bound| count <= bound)
        {
            self.fault(place, Fault::Bounds, format!("{} items", items.len()));
        }
        if let Some(item) = node.get("items") {
            items.iter().for_each(|value| self.value(item, value, &format!("{place}[]")));
        }
    }

    fn text(&mut self, node: &Value, text: &str, place: &str) {
        if node["enum"].as_array().is_some_and(|values| !values.iter().any(|value| value == text)) {
            self.fault(place, Fault::Value, format!("{text:?}"));
        }
        let fits = match node["format"].as_str() {
            Some("dateTime" | "date-time") => is_time(text),
            Some("ip-address") => text.parse::<std::net::IpAddr>().is_ok(),
            Some("CIDR" | "cidr") => is_prefix(text),
            _ => true,
        };
        if !fits {
            self.fault(place, Fault::Format, format!("{text:?}"));
        }
        let length = text.len() as u64;
        let bounds = node["minLength"].as_u64().unwrap_or(0)..=node["maxLength"].as_u64().unwrap_or(u64::MAX);
        if !bounds.contains(&length) || (node["pattern"] == "^[0-9a-fA-F]{64}$" && !is_identifier(text)) {
            self.fault(place, Fault::Bounds, format!("{text:?}"));
        }
    }

    fn integer(&mut self, node: &Value, number: &serde_json::Number, place: &str) {
        let number = number.as_i128().unwrap_or(i128::MAX);
        let format = match node["format"].as_str() {
            Some("uint8") => 0..=i128::from(u8::MAX),
            Some("uint16") => 0..=i128::from(u16::MAX),
            Some("uint32") => 0..=i128::from(u32::MAX),
            Some("uint64") => 0..=i128::from(u64::MAX),
            _ => i128::from(i64::MIN)..=i128::from(i64::MAX),
        };
        if !format.contains(&number) {
            self.fault(place, Fault::Format, number.to_string());
        }
        let bound = |name: &str, otherwise| node[name].as_i64().map_or(otherwise, i128::from);
        if !(bound("minimum", i128::MIN)..=bound("maximum", i128::MAX)).contains(&number) {
            self.fault(place, Fault::Bounds, number.to_string());
        }
        if node["enum"]
            .as_array()
            .is_some_and(|values| !values.iter().any(|v| v.as_i64().map(i128::from) == Some(number)))
        {
            self.fault(place, Fault::Value, number.to_string());
        }
    }
}

fn is_identifier(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// RFC 3339, section 5.6, as far as digits go.
fn is_time(text: &str) -> bool {
    let shape = |text: &str, pattern: &str| {
        text.len() == pattern.len()
            && text.bytes().zip(pattern.bytes()).all(|(byte, wanted)| match wanted {
                b'0' => byte.is_ascii_digit(),
                other => byte == other,
            })
    };
    let Some((whole, rest)) = text.split_at_checked(19) else { return false };
    let rest = rest
        .strip_prefix('.')
        .map_or(rest, |rest| rest.trim_start_matches(|letter: char| letter.is_ascii_digit()));
    shape(whole, "0000-00-00T00:00:00") && (rest == "Z" || shape(rest, "+00:00") || shape(rest, "-00:00"))
}

fn is_prefix(text: &str) -> bool {
    text.split_once('/').is_some_and(|(address, length)| {
        address.parse::<std::net::IpAddr>().is_ok() && length.parse::<u8>().is_ok_and(|length| length <= 128)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn found(definition: &str, value: &Value) -> Vec<String> {
        let schema = Schema::get();
        let found = faults(schema, schema.definition(definition), value, definition);
        found.into_iter().map(|(place, fault, _)| format!("{place} {fault:?}")).collect()
    }

    #[test]
    fn what_a_schema_does_not_allow_is_found() {
        let volume = json!({
            "Name": "a", "Driver": "local", "Mountpoint": "/a", "CreatedAt": "2026-01-01T00:00:00Z", "Labels": {},
            "Scope": "local", "Options": {"a": "b"}, "UsageData": null
        });
        assert_eq!(found("Volume", &volume), [""; 0]);
        for (field, value, fault) in [
            ("Name", json!(1), "Volume.Name Type"),
            ("Name", json!(null), "Volume.Name Null"),
            ("Labels", json!(null), "Volume.Labels Null"),
            ("Labels", json!({"a": 1}), "Volume.Labels{} Type"),
            ("Scope", json!("moon"), "Volume.Scope Value"),
            ("CreatedAt", json!("yesterday"), "Volume.CreatedAt Format"),
            ("UsageData", json!({"Size": 1}), "Volume.UsageData.RefCount Missing"),
            ("UsageData", json!({"Size": 1.5, "RefCount": 1}), "Volume.UsageData.Size Type"),
            ("More", json!(1), "Volume.More Unknown"),
        ] {
            let mut changed = volume.clone();
            changed[field] = value;
            assert_eq!(found("Volume", &changed), [fault]);
        }
        let mut without = volume;
        without.as_object_mut().unwrap().remove("Driver");
        assert_eq!(found("Volume", &without), ["Volume.Driver Missing"]);
        assert_eq!(found("Volume", &json!([])), ["Volume Type"]);
    }

    #[test]
    fn parts_and_references_are_followed() {
        assert_eq!(found("HostConfig", &json!({"CpuShares": 1, "Binds": []})), [""; 0], "allOf");
        assert_eq!(found("HostConfig", &json!({"CpuShares": "1"})), ["HostConfig.CpuShares Type"]);
        assert_eq!(
            found("HostConfig", &json!({"PortBindings": {"80/tcp": [{"HostPort": 80}]}})),
            ["PortBinding.HostPort Type"]
        );
        assert_eq!(found("OCIDescriptor", &json!({"size": 1_u64 << 40})), [""; 0]);
        assert_eq!(found("ContainerSummary", &json!({"Id": "abc"})), ["ContainerSummary.Id Bounds"]);
    }

    #[test]
    fn times_are_those_of_the_rfc() {
        for (text, fits) in [
            ("2026-01-01T00:00:00Z", true),
            ("2026-01-01T00:00:00.123456789Z", true),
            ("2026-01-01T00:00:00+01:00", true),
            ("0001-01-01T00:00:00Z", true),
            ("2026-01-01 00:00:00Z", false),
            ("2026-01-01T00:00:00", false),
            ("", false),
        ] {
            assert_eq!(is_time(text), fits, "{text}");
        }
    }
}
