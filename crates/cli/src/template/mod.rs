//! The part of Go's `text/template` that `--format` is used with: fields, variables, pipelines, `if`, `range`, `with`
//! and Docker's functions, over JSON values and rows. Pure.

mod evaluate;
mod fields;
mod functions;
mod lex;
mod parse;
mod value;

pub(crate) use fields::Fields;
pub(crate) use functions::print;
pub(crate) use value::{Object, Value};

/// Why a template is wrong or does not fit its data. The texts begin as Docker's do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It cannot be parsed.
    #[error("template parsing error: {reason}")]
    Syntax {
        /// What is wrong where.
        reason: String,
    },
    /// It asks for what is not there.
    #[error("template execution error: {reason}")]
    Evaluation {
        /// What is missing.
        reason: String,
    },
}

/// A parsed template.
#[derive(Debug)]
pub(crate) struct Template(Vec<parse::Node>);

impl Template {
    /// Parses `text`, in which `\t` and `\n` may stand for a tab and an end of line, as shells pass them on.
    pub(crate) fn parse(text: &str) -> Result<Self, TemplateError> {
        let text = text.replace("\\t", "\t").replace("\\n", "\n");
        parse::parse(lex::lex(&text)?).map(Self)
    }

    /// Which fields of its data it can ask for.
    pub(crate) fn fields(&self) -> Fields {
        Fields::of(&self.0)
    }

    /// Fills it in.
    pub(crate) fn render(&self, data: &Value) -> Result<String, TemplateError> {
        evaluate::evaluate(&self.0, data)
    }
}

fn syntax(reason: impl Into<String>) -> TemplateError {
    TemplateError::Syntax { reason: reason.into() }
}

fn evaluation(reason: impl Into<String>) -> TemplateError {
    TemplateError::Evaluation { reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(template: &str) -> Result<String, TemplateError> {
        let data = Value::of(&serde_json::json!({
            "ID": "abc", "N": 3, "Yes": true, "Nothing": null, "List": ["x", "y"], "Empty": [],
            "Labels": {"a.b": "1", "c": "2"}, "State": {"Running": true, "Pid": 12},
            "Mounts": [{"Source": "/s", "RW": true}, {"Source": "/t", "RW": false}],
        }));
        Template::parse(template)?.render(&data)
    }

    #[test]
    fn templates_that_people_use_render_as_go_renders_them() {
        let cases = [
            ("{{.ID}}", "abc"),
            ("{{ .State.Running }} {{.State.Pid}}", "true 12"),
            ("{{json .State}}", r#"{"Pid":12,"Running":true}"#),
            ("{{.List}} {{.Labels}} {{.Nothing}}", "[x y] map[a.b:1 c:2] <no value>"),
            (r#"{{index .Labels "a.b"}}-{{index .List 1}}-{{index .Labels "none"}}"#, "1-y-"),
            ("{{range .Mounts}}{{.Source}}:{{.RW}} {{end}}", "/s:true /t:false "),
            ("{{range $i, $m := .Mounts}}{{$i}}={{$m.Source}} {{end}}", "0=/s 1=/t "),
            ("{{range $k, $v := .Labels}}{{$k}}={{$v}};{{end}}", "a.b=1;c=2;"),
            ("{{range .Empty}}x{{else}}none{{end}}", "none"),
            ("{{if .Nothing}}a{{else if .Yes}}b{{else}}c{{end}}", "b"),
            ("{{with .State}}{{.Pid}}{{end}}{{with .Nothing}}x{{else}}y{{end}}", "12y"),
            (r#"{{if and .Yes (eq .N 3)}}both{{end}} {{or .Nothing "d"}} {{not .Yes}}"#, "both d false"),
            (r#"{{join .List ", "}} {{.ID | upper}} {{split "a:b" ":"}} {{len .List}}"#, "x, y ABC [a b] 2"),
            (r#"{{printf "%s=%d %-4s| %q %v%%" .ID .N "x" "q" .List}}"#, r#"abc=3 x   | "q" [x y]%"#),
            ("{{println .ID}}", "abc\n"),
            ("a  {{- .ID -}}  b {{/* nothing */}}", "aabcb "),
            (r"{{.ID}}\t{{.N}}", "abc\t3"),
            ("{{$x := .ID}}{{$x}}", "abc"),
            ("{{(index .Mounts 1).Source}}", "/t"),
            (r#"{{lower "AB"}}{{title "ab"}}{{truncate "abcdef" 3}}{{pad "x" 1 2}}"#, "abAbabc x  "),
            ("{{ne .N 3}} {{lt 1 2}} {{ge 2 2}} {{eq .ID \"z\" \"abc\"}}", "false true true true"),
        ];
        for (template, expected) in cases {
            assert_eq!(render(template).as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn broken_templates_and_missing_fields_are_refused() {
        for template in [
            "{{.ID",
            "{{end}}",
            "{{if .ID}}",
            "{{range}}",
            "{{\"a}}",
            "{{nosuch .}}",
            "{{else}}",
            "{{(.ID}}",
            "{{}}",
        ] {
            assert!(matches!(render(template), Err(TemplateError::Syntax { .. })), "{template}");
        }
        for template in
            ["{{.Nope}}", "{{.ID.X}}", "{{index .List 9}}", "{{len .N}}", "{{$x}}", "{{range .N}}{{end}}"]
        {
            assert!(matches!(render(template), Err(TemplateError::Evaluation { .. })), "{template}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let deep = format!("{{{{{}.ID{}}}}}", "(".repeat(5000), ")".repeat(5000));
        assert!(matches!(render(&deep), Err(TemplateError::Syntax { .. })));
        let deep = "{{if .ID}}".repeat(5000);
        assert!(matches!(render(&deep), Err(TemplateError::Syntax { .. })));
    }
}
