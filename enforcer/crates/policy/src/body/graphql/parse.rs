//! GraphQL documents that can be executed (GraphQL, October 2021, chapters 2 and B).
//!
//! Written by hand, since what matters is to refuse what servers could read in two ways and to bound the
//! work; values and types are checked for their form and dropped.

/// Deeper selections and values are met nowhere but in attacks.
const MAX_DEPTH: usize = 32;
const MAX_TOKENS: usize = 20_000;

pub(super) struct Document {
    pub(super) operations: Vec<Operation>,
    pub(super) fragments: Vec<(String, Vec<Selection>)>,
}

pub(super) struct Operation {
    pub(super) kind: super::Kind,
    pub(super) selections: Vec<Selection>,
}

pub(super) enum Selection {
    /// By its own name, not by its alias.
    Field(String, Vec<Selection>),
    Spread(String),
    Inline(Vec<Selection>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Name(String),
    /// a number or a string
    Literal,
    Spread,
    Mark(char),
}

pub(super) fn parse(text: &str) -> Result<Document, String> {
    let mut parser = Parser { tokens: tokens(text)?, at: 0 };
    let mut document = Document { operations: Vec::new(), fragments: Vec::new() };
    while parser.at < parser.tokens.len() {
        parser.definition(&mut document)?;
    }
    if document.operations.is_empty() {
        return Err("it has no operation".into());
    }
    Ok(document)
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\n' | '\r' | ',' => continue,
            '#' => {
                while let Some(c) = chars.next_if(|c| !matches!(c, '\n' | '\r')) {
                    // To a careless reader these end the comment.
                    if (c.is_control() && c != '\t') || matches!(c, '\u{2028}' | '\u{2029}') {
                        return Err("a comment holds a control character".into());
                    }
                }
                continue;
            }
            '!' | '$' | '&' | '(' | ')' | ':' | '=' | '@' | '[' | ']' | '{' | '|' | '}' => {
                tokens.push(Token::Mark(c))
            }
            '.' => {
                if chars.next() != Some('.') || chars.next() != Some('.') {
                    return Err("a `...` is incomplete".into());
                }
                tokens.push(Token::Spread);
            }
            '"' => {
                string(&mut chars)?;
                tokens.push(Token::Literal);
            }
            '_' | 'a'..='z' | 'A'..='Z' => {
                let mut name = String::from(c);
                while let Some(c) = chars.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
                    name.push(c);
                }
                tokens.push(Token::Name(name));
            }
            '-' | '0'..='9' => {
                while chars
                    .next_if(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '+' | '-' | '_'))
                    .is_some()
                {}
                tokens.push(Token::Literal);
            }
            _ => return Err(format!("it has a {c:?} where none may stand")),
        }
        if tokens.len() > MAX_TOKENS {
            return Err(format!("it has more than {MAX_TOKENS} words"));
        }
    }
    Ok(tokens)
}

/// The rest of a string, after its first quote.
fn string(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<(), String> {
    let endless = || "a text does not end".to_owned();
    if chars.next_if_eq(&'"').is_some() {
        if chars.next_if_eq(&'"').is_none() {
            return Ok(());
        }
        // A block: to the next `"""` that is not written `\"""`.
        let mut quotes = 0;
        let mut escaped = false;
        loop {
            match chars.next().ok_or_else(endless)? {
                '"' if escaped && quotes < 2 => quotes += 1,
                '"' if escaped => (quotes, escaped) = (0, false),
                '"' if quotes == 2 => return Ok(()),
                '"' => quotes += 1,
                '\\' if quotes == 0 && chars.peek() == Some(&'"') => {
                    // Only `\"""` is an escape; `\"` followed by less would be read in two ways.
                    (quotes, escaped) = (0, true);
                }
                _ if escaped => return Err("a text has an odd escape".into()),
                _ => quotes = 0,
            }
        }
    }
    loop {
        match chars.next().ok_or_else(endless)? {
            '"' => return Ok(()),
            '\n' | '\r' => return Err(endless()),
            '\\' => match chars.next().ok_or_else(endless)? {
                '"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't' | 'u' => {}
                _ => return Err("a text has an odd escape".into()),
            },
            _ => {}
        }
    }
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn is(&self, mark: char) -> bool {
        self.peek() == Some(&Token::Mark(mark))
    }

    fn skip(&mut self, mark: char) -> bool {
        let is = self.is(mark);
        self.at += usize::from(is);
        is
    }

    fn expect(&mut self, mark: char) -> Result<(), String> {
        if self.skip(mark) { Ok(()) } else { Err(format!("a `{mark}` is missing")) }
    }

    fn name(&mut self) -> Result<String, String> {
        match self.peek() {
            Some(Token::Name(name)) => {
                let name = name.clone();
                self.at += 1;
                Ok(name)
            }
            _ => Err("a name is missing".into()),
        }
    }

    fn definition(&mut self, document: &mut Document) -> Result<(), String> {
        if self.is('{') {
            let selections = self.selections(0)?;
            document.operations.push(Operation { kind: super::Kind::Query, selections });
            return Ok(());
        }
        let kind = match self.name()?.as_str() {
            "query" => super::Kind::Query,
            "mutation" => super::Kind::Mutation,
            "subscription" => super::Kind::Subscription,
            "fragment" => {
                let name = self.name()?;
                if name == "on" || self.name()? != "on" {
                    return Err("a fragment has no type".into());
                }
                self.name()?;
                self.directives()?;
                if document.fragments.iter().any(|(other, _)| *other == name) {
                    return Err("two fragments have one name".into());
                }
                let selections = self.selections(0)?;
                document.fragments.push((name, selections));
                return Ok(());
            }
            _ => return Err("it holds something that is no operation and no fragment".into()),
        };
        if let Some(Token::Name(_)) = self.peek() {
            self.name()?;
        }
        if self.skip('(') {
            while !self.skip(')') {
                self.expect('$')?;
                self.name()?;
                self.expect(':')?;
                self.kind(0)?;
                if self.skip('=') {
                    self.value(0)?;
                }
                self.directives()?;
            }
        }
        self.directives()?;
        let selections = self.selections(0)?;
        document.operations.push(Operation { kind, selections });
        Ok(())
    }

    fn selections(&mut self, depth: usize) -> Result<Vec<Selection>, String> {
        if depth > MAX_DEPTH {
            return Err(format!("it is nested more than {MAX_DEPTH} deep"));
        }
        self.expect('{')?;
        let mut selections = Vec::new();
        while !self.skip('}') {
            selections.push(self.selection(depth)?);
        }
        if selections.is_empty() { Err("it selects nothing".into()) } else { Ok(selections) }
    }

    fn selection(&mut self, depth: usize) -> Result<Selection, String> {
        if self.peek() == Some(&Token::Spread) {
            self.at += 1;
            if let Some(Token::Name(name)) = self.peek().cloned() {
                self.at += 1;
                if name != "on" {
                    self.directives()?;
                    return Ok(Selection::Spread(name));
                }
                self.name()?;
            }
            self.directives()?;
            return self.selections(depth + 1).map(Selection::Inline);
        }
        let mut name = self.name()?;
        if self.skip(':') {
            name = self.name()?;
        }
        self.arguments()?;
        self.directives()?;
        let below = if self.is('{') { self.selections(depth + 1)? } else { Vec::new() };
        Ok(Selection::Field(name, below))
    }

    fn directives(&mut self) -> Result<(), String> {
        while self.skip('@') {
            self.name()?;
            self.arguments()?;
        }
        Ok(())
    }

    fn arguments(&mut self) -> Result<(), String> {
        if self.skip('(') {
            while !self.skip(')') {
                self.name()?;
                self.expect(':')?;
                self.value(0)?;
            }
        }
        Ok(())
    }

    fn value(&mut self, depth: usize) -> Result<(), String> {
        if depth > MAX_DEPTH {
            return Err(format!("a value is nested more than {MAX_DEPTH} deep"));
        }
        match self.peek() {
            Some(Token::Literal | Token::Name(_)) => self.at += 1,
            Some(Token::Mark('$')) => {
                self.at += 1;
                self.name()?;
            }
            Some(Token::Mark('[')) => {
                self.at += 1;
                while !self.skip(']') {
                    self.value(depth + 1)?;
                }
            }
            Some(Token::Mark('{')) => {
                self.at += 1;
                while !self.skip('}') {
                    self.name()?;
                    self.expect(':')?;
                    self.value(depth + 1)?;
                }
            }
            _ => return Err("a value is missing".into()),
        }
        Ok(())
    }

    fn kind(&mut self, depth: usize) -> Result<(), String> {
        if depth > MAX_DEPTH {
            return Err("a type is nested too deep".into());
        }
        if self.skip('[') {
            self.kind(depth + 1)?;
            self.expect(']')?;
        } else {
            self.name()?;
        }
        self.skip('!');
        Ok(())
    }
}
