//! Lists of rows under `--format`: a table, JSON lines, or a template per row.

use std::rc::Rc;

use crate::error::Result;
use crate::render::table;
use crate::template::{Fields, Object, Template, Value, print};

/// The field that holds a row's labels, for `{{.Label "key"}}`.
const LABELS: &str = "Label";

/// One row: the fields that templates name.
#[derive(Debug, Default)]
pub(crate) struct Row {
    fields: Object,
    /// Which may be asked for; none where that is not known.
    asked: Option<Rc<Fields>>,
}

impl Row {
    /// A row of which nothing else is asked for.
    pub(crate) fn of(asked: &Rc<Fields>) -> Self {
        Self { fields: Object::default(), asked: Some(Rc::clone(asked)) }
    }

    /// Adds a field.
    pub(crate) fn with(mut self, field: &'static str, value: impl Into<Value>) -> Self {
        self.fields.set(field, value);
        self
    }

    /// Adds a field that takes some work, if it may be asked for.
    pub(crate) fn with_late<V: Into<Value>>(self, field: &'static str, value: impl FnOnce() -> V) -> Self {
        if self.is_asked_for(field) { self.with(field, value()) } else { self }
    }

    fn is_asked_for(&self, field: &str) -> bool {
        self.asked.as_ref().is_none_or(|asked| asked.have(field))
    }

    /// Adds labels, in one cell and for templates that ask for one of them.
    pub(crate) fn with_labels<'a>(self, labels: impl IntoIterator<Item = (&'a String, &'a String)>) -> Self {
        if !self.is_asked_for("Labels") && !self.is_asked_for(LABELS) {
            return self;
        }
        let labels: Object =
            labels.into_iter().map(|(key, value)| (key.clone(), value.as_str().into())).collect();
        let pairs = labels.iter().map(|(key, value)| format!("{key}={}", print(value)));
        let cell = pairs.collect::<Vec<_>>().join(",");
        self.with("Labels", cell).with(LABELS, Value::Labels(labels))
    }

    /// For templates.
    pub(crate) fn into_value(self) -> Value {
        Value::Row(self.fields)
    }
}

/// What a list looks like.
pub(crate) struct Layout {
    /// The template of the table, without `table`.
    pub(crate) table: &'static str,
    /// Headers by field.
    pub(crate) headers: &'static [(&'static str, &'static str)],
}

impl Layout {
    /// Which fields of rows `format` can ask for.
    pub(crate) fn fields(&self, format: Option<&str>) -> Result<Rc<Fields>> {
        let template = match format.map(str::trim) {
            None | Some("" | "table") => self.table,
            Some("json") => return Ok(Rc::new(Fields::All)),
            Some(format) => format.strip_prefix("table ").unwrap_or(format),
        };
        Ok(Rc::new(Template::parse(template)?.fields()))
    }

    /// Renders rows as `format` says; without one as a table.
    pub(crate) fn render(&self, format: Option<&str>, rows: impl IntoIterator<Item = Row>) -> Result<String> {
        match format.map(str::trim) {
            None | Some("" | "table") => self.table(self.table, rows),
            Some("json") => Ok(rows.into_iter().map(|row| row.into_value().to_json() + "\n").collect()),
            Some(format) => match format.strip_prefix("table ") {
                Some(template) => self.table(template.trim(), rows),
                None => lines(&Template::parse(format)?, rows),
            },
        }
    }

    fn table(&self, template: &str, rows: impl IntoIterator<Item = Row>) -> Result<String> {
        let template = Template::parse(template)?;
        let headers = self.headers.iter().map(|(field, header)| (*field, Value::from(*header)));
        let headers = headers.chain([(LABELS, Value::LabelTitles)]);
        let mut text = template.render(&Value::Header(headers.collect()))?;
        text.push('\n');
        text.push_str(&lines(&template, rows)?);
        Ok(table::align(&text, 10, 3))
    }
}

fn lines(template: &Template, rows: impl IntoIterator<Item = Row>) -> Result<String> {
    let line = |row: Row| Ok(template.render(&row.into_value())? + "\n");
    rows.into_iter().map(line).collect()
}

/// The first 12 digits of an id, without its algorithm.
pub(crate) fn short_id(id: &str) -> &str {
    let digits = id.split_once(':').map_or(id, |(_, digits)| digits);
    digits.get(..12).unwrap_or(digits)
}

/// At most `width` letters, the last one `…` when some are missing.
pub(crate) fn ellipsis(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const LAYOUT: Layout =
        Layout { table: "{{.ID}}\t{{.Name}}", headers: &[("ID", "CONTAINER ID"), ("Name", "NAMES")] };

    fn rows() -> Vec<Row> {
        let labels = BTreeMap::from([("a.b".to_owned(), "c".to_owned())]);
        vec![Row::default().with("ID", "1").with("Name", "one").with_labels(&labels)]
    }

    #[test]
    fn every_form_of_format_renders() {
        let cases = [
            (None, "CONTAINER ID   NAMES\n1              one\n"),
            (Some("table"), "CONTAINER ID   NAMES\n1              one\n"),
            (Some(r"table {{.Name}}\t{{.ID}}"), "NAMES     CONTAINER ID\none       1\n"),
            (Some("json"), "{\"ID\":\"1\",\"Labels\":\"a.b=c\",\"Name\":\"one\"}\n"),
            (Some("{{json .}}"), "{\"ID\":\"1\",\"Labels\":\"a.b=c\",\"Name\":\"one\"}\n"),
            (Some("table {{.Label \"x.a-b\"}}\\t{{.Label \"a.b\"}}"), "a b       b\n          c\n"),
            (Some("{{.ID}}/{{.Label \"a.b\"}}"), "1/c\n"),
            (Some("{{json .Name}}"), "\"one\"\n"),
        ];
        for (format, expected) in cases {
            assert_eq!(LAYOUT.render(format, rows()).expect("renders"), expected, "{format:?}");
        }
        assert!(LAYOUT.render(Some("{{.Nope}}"), rows()).is_err());
    }

    #[test]
    fn what_nobody_asks_for_is_not_worked_out() {
        let unasked = || -> String { panic!("nobody asks for it") };
        let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        for (format, expected) in [("{{.ID}}", "1\n"), ("table {{.ID}}", "CONTAINER ID\n1\n")] {
            let fields = LAYOUT.fields(Some(format)).expect("a template");
            let row =
                Row::of(&fields).with_late("ID", || "1").with_late("Name", unasked).with_labels(&labels);
            assert_eq!(LAYOUT.render(Some(format), [row]).expect("renders"), expected);
        }
        for format in [None, Some("json"), Some("{{json .}}"), Some("{{.Name}}")] {
            let fields = LAYOUT.fields(format).expect("a template");
            assert!(fields.have("Name"), "{format:?}");
        }
        assert!(LAYOUT.fields(Some("{{")).is_err());
    }

    #[test]
    fn ids_and_commands_are_shortened() {
        assert_eq!(short_id("sha256:3267ac12d960c6b0"), "3267ac12d960");
        assert_eq!(short_id("abc"), "abc");
        assert_eq!(ellipsis("\"sleep 1000000000000000\"", 20), "\"sleep 100000000000…");
        assert_eq!(ellipsis("short", 20), "short");
    }
}
