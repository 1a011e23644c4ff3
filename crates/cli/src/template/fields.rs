//! What a template can ask its data for, known before there is any.

use super::parse::{Command, Node, Operand, Pipeline};

/// Names of fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fields {
    /// Whatever there is.
    All,
    /// No others than these.
    Named(Vec<String>),
}

impl Fields {
    /// Whether a template can ask for `name`.
    pub(crate) fn have(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Named(names) => names.iter().any(|named| named == name),
        }
    }

    /// Those of a tree. Inside of `with` and `range` the dot is something else; what is asked of it there counts as well.
    pub(super) fn of(nodes: &[Node]) -> Self {
        let mut names = Some(Vec::new());
        Self::in_nodes(nodes, &mut names);
        names.map_or(Self::All, Self::Named)
    }

    fn in_nodes(nodes: &[Node], names: &mut Option<Vec<String>>) {
        for node in nodes {
            match node {
                Node::Text(_) => {}
                Node::Output(pipeline) | Node::Assign(_, pipeline) => Self::in_pipeline(pipeline, names),
                Node::If { condition: pipeline, then, otherwise }
                | Node::With { value: pipeline, then, otherwise }
                | Node::Range { list: pipeline, body: then, otherwise, .. } => {
                    Self::in_pipeline(pipeline, names);
                    Self::in_nodes(then, names);
                    Self::in_nodes(otherwise, names);
                }
            }
        }
    }

    fn in_pipeline(pipeline: &Pipeline, names: &mut Option<Vec<String>>) {
        for command in &pipeline.0 {
            match command {
                Command::Value(operand) => Self::in_operand(operand, names),
                Command::Call(_, operands) => {
                    operands.iter().for_each(|operand| Self::in_operand(operand, names));
                }
            }
        }
    }

    fn in_operand(operand: &Operand, names: &mut Option<Vec<String>>) {
        match operand {
            Operand::Literal(_) => {}
            // `$` is the data itself, and others may stand for it.
            Operand::Dot | Operand::Variable(_) => *names = None,
            Operand::Nested(pipeline) => Self::in_pipeline(pipeline, names),
            Operand::Field(of, name) => match (&**of, names) {
                (Operand::Dot, Some(names)) => names.push(name.clone()),
                (Operand::Dot, None) => {}
                (of, names) => Self::in_operand(of, names),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Template;
    use super::*;

    #[test]
    fn fields_are_found_wherever_they_are_asked_for() {
        let named = |names: &[&str]| Fields::Named(names.iter().map(|name| (*name).to_owned()).collect());
        let cases = [
            ("text", named(&[])),
            ("{{.ID}}\t{{upper .Names}}", named(&["ID", "Names"])),
            ("{{.State.Pid}}{{(index .List 1).X}}", named(&["State", "List"])),
            (
                r#"{{if eq .A "x"}}{{.B}}{{else}}{{with .C}}{{.D}}{{end}}{{end}}"#,
                named(&["A", "B", "C", "D"]),
            ),
            (
                r#"{{range .A}}{{.B}}{{else}}{{.C | lower}}{{end}}{{.Label "x"}}"#,
                named(&["A", "B", "C", "Label"]),
            ),
            ("{{json .}}", Fields::All),
            ("{{range .A}}{{.}}{{end}}", Fields::All),
            ("{{with .A}}{{$.B}}{{end}}", Fields::All),
            ("{{.A}}{{. | json}}{{.B}}", Fields::All),
        ];
        for (template, expected) in cases {
            let found = Template::parse(template).expect("a template").fields();
            assert_eq!(found, expected, "{template}");
        }
        assert!(Fields::All.have("x") && named(&["x"]).have("x") && !named(&["x"]).have("y"));
    }
}
