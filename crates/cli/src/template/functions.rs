//! The functions of templates: Go's and the ones Docker adds.

use std::cmp::Ordering;

use super::{TemplateError, Value, evaluation, syntax};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Json,
    Join,
    Split,
    Lower,
    Upper,
    Title,
    Pad,
    Truncate,
    Len,
    Index,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    And,
    Or,
    Not,
    Print,
    Println,
    Printf,
}

impl Function {
    pub(super) fn named(name: &str) -> Result<Self, TemplateError> {
        Ok(match name {
            "json" => Self::Json,
            "join" => Self::Join,
            "split" => Self::Split,
            "lower" => Self::Lower,
            "upper" => Self::Upper,
            "title" => Self::Title,
            "pad" => Self::Pad,
            "truncate" => Self::Truncate,
            "len" => Self::Len,
            "index" => Self::Index,
            "eq" => Self::Equal,
            "ne" => Self::NotEqual,
            "lt" => Self::Less,
            "le" => Self::LessOrEqual,
            "gt" => Self::Greater,
            "ge" => Self::GreaterOrEqual,
            "and" => Self::And,
            "or" => Self::Or,
            "not" => Self::Not,
            "print" => Self::Print,
            "println" => Self::Println,
            "printf" => Self::Printf,
            other => return Err(syntax(format!("function {other:?} not defined"))),
        })
    }

    pub(super) fn call(self, arguments: &[Value]) -> Result<Value, TemplateError> {
        let few = || evaluation(format!("wrong number of args for {self:?}"));
        let first = arguments.first();
        match self {
            Self::And | Self::Or => {
                let wanted = self == Self::Or;
                let chosen = arguments.iter().find(|value| is_true(value) == wanted).or(arguments.last());
                return chosen.cloned().ok_or_else(few);
            }
            Self::Print => return Ok(arguments.iter().map(print).collect::<String>().into()),
            Self::Println => {
                return Ok((arguments.iter().map(print).collect::<Vec<_>>().join(" ") + "\n").into());
            }
            Self::Printf => return formatted(arguments).map(Value::from),
            Self::Index => return index(arguments),
            _ => {}
        }
        let first = first.ok_or_else(few)?;
        match (self, arguments.get(1), arguments.get(2)) {
            (Self::Json, None, _) => Ok(first.to_json().into()),
            (Self::Lower, None, _) => Ok(print(first).to_lowercase().into()),
            (Self::Upper, None, _) => Ok(print(first).to_uppercase().into()),
            (Self::Title, None, _) => Ok(title(&print(first)).into()),
            (Self::Not, None, _) => Ok((!is_true(first)).into()),
            (Self::Len, None, _) => length(first),
            (Self::Join, Some(separator), None) => join(first, &print(separator)),
            (Self::Split, Some(separator), None) => Ok(split(&print(first), &print(separator))),
            (Self::Truncate, Some(count), None) => Ok(truncate(&print(first), number_of(count)).into()),
            (Self::Pad, Some(before), Some(after)) => {
                Ok(pad(first, number_of(before), number_of(after)).into())
            }
            (Self::Equal, Some(_), _) => {
                Ok(arguments[1..].iter().any(|other| compare(first, other) == Some(Ordering::Equal)).into())
            }
            (Self::NotEqual, Some(other), None) => {
                Ok((compare(first, other) != Some(Ordering::Equal)).into())
            }
            (Self::Less | Self::LessOrEqual | Self::Greater | Self::GreaterOrEqual, Some(other), None) => {
                let order =
                    compare(first, other).ok_or_else(|| evaluation("incompatible types for comparison"))?;
                Ok(self.accepts(order).into())
            }
            _ => Err(few()),
        }
    }

    fn accepts(self, order: Ordering) -> bool {
        match self {
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            _ => order.is_ge(),
        }
    }
}

/// A value as Go's `print` shows it.
pub(crate) fn print(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".into(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_json(),
        Value::Array(items) => format!("[{}]", items.iter().map(inner).collect::<Vec<_>>().join(" ")),
        Value::Object(map) | Value::Row(map) | Value::Header(map) | Value::Labels(map) => {
            let mut entries: Vec<_> =
                map.iter().map(|(key, value)| format!("{key}:{}", inner(value))).collect();
            entries.sort();
            format!("map[{}]", entries.join(" "))
        }
        Value::Alias(value) => print(value),
        Value::LabelTitles => String::new(),
    }
}

fn inner(value: &Value) -> String {
    if *value == Value::Null { "<nil>".into() } else { print(value) }
}

pub(super) fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) | Value::Row(map) | Value::Header(map) | Value::Labels(map) => map.len() > 0,
        Value::Alias(value) => is_true(value),
        Value::LabelTitles => true,
    }
}

/// A JSON number that prints without a fraction when it has none.
#[expect(clippy::cast_possible_truncation, reason = "only taken when the number is whole and small")]
pub(super) fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 9e15 { (value as i64).into() } else { value.into() }
}

fn compare(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => left.as_f64()?.partial_cmp(&right.as_f64()?),
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        _ => (left == right).then_some(Ordering::Equal),
    }
}

fn length(value: &Value) -> Result<Value, TemplateError> {
    match value {
        Value::String(text) => Ok(text.len().into()),
        Value::Array(items) => Ok(items.len().into()),
        Value::Object(map) => Ok(map.len().into()),
        Value::Null => Ok(0_usize.into()),
        other => Err(evaluation(format!("len of {}", print(other)))),
    }
}

fn index(arguments: &[Value]) -> Result<Value, TemplateError> {
    let (first, keys) = arguments.split_first().ok_or_else(|| evaluation("index of nothing"))?;
    keys.iter().try_fold(first.clone(), |value, key| match (&value, key) {
        // Docker's maps hold strings; a missing key is the empty one.
        (Value::LabelTitles, Value::String(key)) => Ok(label_title(key).into()),
        (Value::Object(map) | Value::Labels(map), Value::String(key)) => {
            Ok(map.get(key).cloned().unwrap_or_else(|| "".into()))
        }
        (Value::Null, Value::String(_)) => Ok("".into()),
        (Value::Array(items), Value::Number(at)) => {
            let found = at.as_u64().and_then(|at| items.get(usize::try_from(at).ok()?));
            found.cloned().ok_or_else(|| evaluation(format!("error calling index: index out of range: {at}")))
        }
        (other, key) => Err(evaluation(format!("can't index {} by {}", print(other), print(key)))),
    })
}

/// The last part of a label's key, in words.
fn label_title(key: &str) -> String {
    key.rsplit('.').next().unwrap_or(key).replace(['-', '_'], " ")
}

fn join(list: &Value, separator: &str) -> Result<Value, TemplateError> {
    match list {
        Value::Array(items) => Ok(items.iter().map(print).collect::<Vec<_>>().join(separator).into()),
        Value::Null => Ok("".into()),
        other => Err(evaluation(format!("can't join {}", print(other)))),
    }
}

fn split(text: &str, separator: &str) -> Value {
    text.split(separator).map(Value::from).collect()
}

fn title(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn as_usize(value: &Value) -> Option<usize> {
    match value {
        Value::Number(number) => usize::try_from(number.as_u64()?).ok(),
        _ => None,
    }
}

fn number_of(value: &Value) -> usize {
    as_usize(value).unwrap_or(0).min(4096)
}

fn truncate(text: &str, count: usize) -> String {
    text.chars().take(count).collect()
}

fn pad(value: &Value, before: usize, after: usize) -> String {
    let text = print(value);
    if text.is_empty() { text } else { format!("{}{text}{}", " ".repeat(before), " ".repeat(after)) }
}

/// `printf` with `%s %d %v %q %t %%` and a width, `-` for the left.
fn formatted(arguments: &[Value]) -> Result<String, TemplateError> {
    let Some(Value::String(format)) = arguments.first() else {
        return Err(evaluation("printf needs a format"));
    };
    let mut values = arguments[1..].iter();
    let mut out = String::new();
    let mut letters = format.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            out.push(letter);
            continue;
        }
        let left = letters.next_if_eq(&'-').is_some();
        let mut width = 0_usize;
        while let Some(digit) = letters.peek().and_then(|letter| letter.to_digit(10)) {
            width = (width * 10 + digit as usize).min(4096);
            letters.next();
        }
        let verb = letters.next().ok_or_else(|| evaluation("printf: nothing after %"))?;
        if verb == '%' {
            out.push('%');
            continue;
        }
        let value = values.next().ok_or_else(|| evaluation(format!("printf: no value for %{verb}")))?;
        let text = match verb {
            'q' => format!("{:?}", print(value)),
            's' | 'd' | 'v' | 't' => print(value),
            other => return Err(evaluation(format!("printf: unknown verb %{other}"))),
        };
        out.push_str(&if left { format!("{text:<width$}") } else { format!("{text:>width$}") });
    }
    Ok(out)
}
