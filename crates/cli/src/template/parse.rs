//! Tokens into a tree.

use super::functions::Function;
use super::lex::Token;
use super::{TemplateError, Value, syntax};

/// How deep parentheses and blocks may nest; recursion follows them.
const DEPTH: usize = 64;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Text(String),
    Output(Pipeline),
    Assign(String, Pipeline),
    If { condition: Pipeline, then: Vec<Node>, otherwise: Vec<Node> },
    With { value: Pipeline, then: Vec<Node>, otherwise: Vec<Node> },
    Range { key: Option<String>, item: Option<String>, list: Pipeline, body: Vec<Node>, otherwise: Vec<Node> },
}

/// Commands, each getting the value of the one before as its last argument.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pipeline(pub(super) Vec<Command>);

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Command {
    Value(Operand),
    Call(Function, Vec<Operand>),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Operand {
    Dot,
    Variable(String),
    Literal(Value),
    Nested(Box<Pipeline>),
    Field(Box<Operand>, String),
}

pub(super) fn parse(tokens: Vec<Token>) -> Result<Vec<Node>, TemplateError> {
    let mut parser = Parser { tokens: tokens.into_iter().peekable(), depth: 0 };
    let (nodes, end) = parser.nodes()?;
    match end {
        Stop::Text => Ok(nodes),
        Stop::Else | Stop::ElseIf => Err(syntax("unexpected {{else}}")),
        Stop::End => Err(syntax("unexpected {{end}}")),
    }
}

struct Parser {
    tokens: std::iter::Peekable<std::vec::IntoIter<Token>>,
    depth: usize,
}

/// What ended a list of nodes.
#[derive(PartialEq)]
enum Stop {
    Text,
    End,
    Else,
    /// The condition comes next.
    ElseIf,
}

impl Parser {
    fn deeper<T>(
        &mut self,
        parse: impl FnOnce(&mut Self) -> Result<T, TemplateError>,
    ) -> Result<T, TemplateError> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(syntax("nested too deeply"));
        }
        let result = parse(self);
        self.depth -= 1;
        result
    }

    fn nodes(&mut self) -> Result<(Vec<Node>, Stop), TemplateError> {
        let mut nodes = Vec::new();
        while let Some(token) = self.tokens.next() {
            match token {
                Token::Text(text) => nodes.push(Node::Text(text)),
                _ => match self.action()? {
                    Ok(node) => nodes.push(node),
                    Err(end) => return Ok((nodes, end)),
                },
            }
        }
        Ok((nodes, Stop::Text))
    }

    /// The action after `{{`: a node, or the end of the enclosing block.
    fn action(&mut self) -> Result<Result<Node, Stop>, TemplateError> {
        let word = match self.tokens.peek() {
            Some(Token::Word(word)) => word.clone(),
            _ => String::new(),
        };
        match word.as_str() {
            "end" => self.keyword(Stop::End).map(Err),
            "else" => {
                self.tokens.next();
                if self.tokens.peek() == Some(&Token::Word("if".into())) {
                    self.tokens.next();
                    return Ok(Err(Stop::ElseIf));
                }
                self.close()?;
                Ok(Err(Stop::Else))
            }
            "if" => {
                self.tokens.next();
                self.deeper(Self::condition).map(Ok)
            }
            "with" => {
                self.tokens.next();
                let value = self.pipeline_to_close()?;
                let (then, otherwise) = self.deeper(Self::blocks)?;
                Ok(Ok(Node::With { value, then, otherwise }))
            }
            "range" => {
                self.tokens.next();
                self.deeper(Self::range).map(Ok)
            }
            _ => self.output().map(Ok),
        }
    }

    fn keyword(&mut self, end: Stop) -> Result<Stop, TemplateError> {
        self.tokens.next();
        self.close()?;
        Ok(end)
    }

    fn close(&mut self) -> Result<(), TemplateError> {
        match self.tokens.next() {
            Some(Token::Close) => Ok(()),
            other => Err(syntax(format!("unexpected {other:?}, expected }}}}"))),
        }
    }

    fn condition(&mut self) -> Result<Node, TemplateError> {
        let condition = self.pipeline_to_close()?;
        let (then, otherwise) = self.blocks()?;
        Ok(Node::If { condition, then, otherwise })
    }

    fn blocks(&mut self) -> Result<(Vec<Node>, Vec<Node>), TemplateError> {
        let (then, end) = self.nodes()?;
        let otherwise = match end {
            Stop::End => Vec::new(),
            Stop::Else => match self.nodes()? {
                (nodes, Stop::End) => nodes,
                _ => return Err(syntax("unexpected end of {{else}}")),
            },
            Stop::ElseIf => vec![self.deeper(Self::condition)?],
            Stop::Text => return Err(syntax("unexpected end of text, expected {{end}}")),
        };
        Ok((then, otherwise))
    }

    fn range(&mut self) -> Result<Node, TemplateError> {
        let mut names = self.declared_names()?;
        let list = self.pipeline_to_close()?;
        let (body, otherwise) = self.blocks()?;
        let item = names.pop();
        Ok(Node::Range { key: names.pop(), item, list, body, otherwise })
    }

    /// `$item :=` or `$key, $item :=`, or neither when the pipeline begins with a variable.
    fn declared_names(&mut self) -> Result<Vec<String>, TemplateError> {
        let mut ahead = self.tokens.clone();
        let mut names = Vec::new();
        while let Some(Token::Variable(name)) = ahead.next() {
            names.push(name);
            match ahead.next() {
                Some(Token::Comma) if names.len() < 2 => {}
                Some(Token::Assign) => {
                    self.tokens = ahead;
                    return Ok(names);
                }
                Some(Token::Comma) => return Err(syntax("too many declarations in range")),
                _ => break,
            }
        }
        Ok(Vec::new())
    }

    fn output(&mut self) -> Result<Node, TemplateError> {
        let mut names = self.declared_names()?;
        let pipeline = self.pipeline_to_close()?;
        match (names.pop(), names.is_empty()) {
            (None, _) => Ok(Node::Output(pipeline)),
            (Some(name), true) => Ok(Node::Assign(name, pipeline)),
            (Some(_), false) => Err(syntax("too many declarations")),
        }
    }

    fn pipeline_to_close(&mut self) -> Result<Pipeline, TemplateError> {
        let pipeline = self.pipeline()?;
        self.close()?;
        Ok(pipeline)
    }

    fn pipeline(&mut self) -> Result<Pipeline, TemplateError> {
        let mut commands = vec![self.command()?];
        while self.tokens.next_if_eq(&Token::Pipe).is_some() {
            match self.command()? {
                Command::Value(_) => return Err(syntax("non executable command in pipeline")),
                call @ Command::Call(..) => commands.push(call),
            }
        }
        Ok(Pipeline(commands))
    }

    fn command(&mut self) -> Result<Command, TemplateError> {
        if let Some(Token::Word(word)) = self.tokens.peek()
            && !matches!(word.as_str(), "true" | "false" | "nil")
        {
            let function = Function::named(word)?;
            self.tokens.next();
            let mut arguments = Vec::new();
            while let Some(operand) = self.operand()? {
                arguments.push(operand);
            }
            return Ok(Command::Call(function, arguments));
        }
        let first = self.operand()?.ok_or_else(|| syntax("missing value for command"))?;
        // Rows have one method with an argument, `.Label "key"`: a map, indexed.
        match self.operand()? {
            None => Ok(Command::Value(first)),
            Some(key) => Ok(Command::Call(Function::Index, vec![first, key])),
        }
    }

    fn operand(&mut self) -> Result<Option<Operand>, TemplateError> {
        let mut operand = match self.tokens.peek() {
            Some(Token::Dot) => Operand::Dot,
            Some(Token::Field { name, .. }) => Operand::Field(Box::new(Operand::Dot), name.clone()),
            Some(Token::Variable(name)) => Operand::Variable(name.clone()),
            Some(Token::String(text)) => Operand::Literal(text.clone().into()),
            Some(Token::Number(number)) => Operand::Literal(super::functions::number(*number)),
            Some(Token::Word(word)) => match word.as_str() {
                "true" => Operand::Literal(true.into()),
                "false" => Operand::Literal(false.into()),
                "nil" => Operand::Literal(Value::Null),
                // A function without arguments, such as `(len)`, makes no sense with JSON.
                other => return Err(syntax(format!("unexpected word {other:?}"))),
            },
            Some(Token::Left) => {
                self.tokens.next();
                let nested = self.deeper(Self::pipeline)?;
                if self.tokens.peek() != Some(&Token::Right) {
                    return Err(syntax("unclosed left paren"));
                }
                Operand::Nested(Box::new(nested))
            }
            _ => return Ok(None),
        };
        self.tokens.next();
        while let Some(Token::Field { name, glued: true }) = self.tokens.peek() {
            operand = Operand::Field(Box::new(operand), name.clone());
            self.tokens.next();
        }
        Ok(Some(operand))
    }
}
