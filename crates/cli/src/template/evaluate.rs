//! A tree and its data into text.

use std::borrow::Cow;

use super::functions::{is_true, print};
use super::parse::{Command, Node, Operand, Pipeline};
use super::{TemplateError, Value, evaluation};

pub(super) fn evaluate(nodes: &[Node], data: &Value) -> Result<String, TemplateError> {
    let mut scope = Scope { root: data, variables: Vec::new(), out: String::new() };
    scope.nodes(nodes, data)?;
    Ok(scope.out)
}

struct Scope<'a> {
    root: &'a Value,
    /// Later ones hide earlier ones.
    variables: Vec<(String, Value)>,
    out: String,
}

impl Scope<'_> {
    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<(), TemplateError> {
        let visible = self.variables.len();
        for node in nodes {
            self.node(node, dot)?;
        }
        self.variables.truncate(visible);
        Ok(())
    }

    fn node(&mut self, node: &Node, dot: &Value) -> Result<(), TemplateError> {
        match node {
            Node::Text(text) => self.out.push_str(text),
            Node::Output(pipeline) => {
                let value = self.pipeline(pipeline, dot)?;
                match &*value {
                    Value::String(text) => self.out.push_str(text),
                    value => self.out.push_str(&print(value)),
                }
            }
            Node::Assign(name, pipeline) => {
                let value = self.pipeline(pipeline, dot)?.into_owned();
                self.variables.push((name.clone(), value));
            }
            Node::If { condition, then, otherwise } => {
                let chosen = if is_true(&*self.pipeline(condition, dot)?) { then } else { otherwise };
                self.nodes(chosen, dot)?;
            }
            Node::With { value, then, otherwise } => {
                let value = self.pipeline(value, dot)?.into_owned();
                if is_true(&value) { self.nodes(then, &value)? } else { self.nodes(otherwise, dot)? }
            }
            Node::Range { key, item, list, body, otherwise } => {
                let list = self.pipeline(list, dot)?.into_owned();
                let names = [key.as_deref(), item.as_deref()];
                if !self.range(names, &list, body)? {
                    self.nodes(otherwise, dot)?;
                }
            }
        }
        Ok(())
    }

    /// Whether there was anything to go through.
    fn range(
        &mut self,
        names: [Option<&str>; 2],
        list: &Value,
        body: &[Node],
    ) -> Result<bool, TemplateError> {
        let items: Vec<(Value, &Value)> = match list {
            Value::Null => Vec::new(),
            Value::Array(items) => {
                items.iter().enumerate().map(|(index, item)| (index.into(), item)).collect()
            }
            Value::Object(map) => {
                let mut items: Vec<_> = map.iter().collect();
                // Go goes through maps by key.
                items.sort_by_key(|(key, _)| *key);
                items.into_iter().map(|(key, item)| (key.into(), item)).collect()
            }
            other => return Err(evaluation(format!("range can't iterate over {}", print(other)))),
        };
        for (key, item) in &items {
            let visible = self.variables.len();
            for (name, value) in names.into_iter().zip([key, *item]) {
                self.variables.extend(name.map(|name| (name.to_owned(), value.clone())));
            }
            self.nodes(body, item)?;
            self.variables.truncate(visible);
        }
        Ok(!items.is_empty())
    }

    fn pipeline<'v>(&self, pipeline: &Pipeline, dot: &'v Value) -> Result<Cow<'v, Value>, TemplateError> {
        let mut last: Option<Cow<'v, Value>> = None;
        for command in &pipeline.0 {
            last = Some(match command {
                Command::Value(operand) => self.operand(operand, dot)?,
                Command::Call(function, operands) => {
                    let mut arguments = Vec::with_capacity(operands.len() + 1);
                    for operand in operands {
                        arguments.push(self.operand(operand, dot)?.into_owned());
                    }
                    arguments.extend(last.take().map(Cow::into_owned));
                    Cow::Owned(function.call(&arguments)?)
                }
            });
        }
        Ok(last.expect("a pipeline has a command"))
    }

    fn operand<'v>(&self, operand: &Operand, dot: &'v Value) -> Result<Cow<'v, Value>, TemplateError> {
        match operand {
            Operand::Dot => Ok(Cow::Borrowed(dot)),
            Operand::Literal(value) => Ok(Cow::Owned(value.clone())),
            Operand::Nested(pipeline) => self.pipeline(pipeline, dot),
            Operand::Variable(name) if name.is_empty() => Ok(Cow::Owned(self.root.clone())),
            Operand::Variable(name) => {
                let found = self.variables.iter().rev().find(|(known, _)| known == name);
                let missing = || evaluation(format!("undefined variable \"${name}\""));
                found.map(|(_, value)| Cow::Owned(value.clone())).ok_or_else(missing)
            }
            Operand::Field(base, name) => match self.operand(base, dot)? {
                Cow::Borrowed(value) => field(value, name).map(Cow::Borrowed),
                Cow::Owned(value) => field(&value, name).map(|value| Cow::Owned(value.clone())),
            },
        }
    }
}

fn field<'v>(value: &'v Value, name: &str) -> Result<&'v Value, TemplateError> {
    match value {
        Value::Object(map) | Value::Row(map) => {
            match map.get(name).ok_or_else(|| evaluation(format!("map has no entry for key {name:?}")))? {
                Value::Alias(value) => Ok(value),
                value => Ok(value),
            }
        }
        Value::Header(titles) => Ok(titles.get(name).unwrap_or(&Value::Null)),
        Value::Null => Err(evaluation(format!("nil data; no entry for key {name:?}"))),
        other => Err(evaluation(format!("can't evaluate field {name} in {}", print(other)))),
    }
}
