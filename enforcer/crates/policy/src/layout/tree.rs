//! A file as a tree that still knows how it was written: style, lines and comments.

use std::collections::VecDeque;

use serde_saphyr::granit_parser::{self, Event, Parser, ScalarStyle, StructureStyle};

use crate::document::{Form, Shape};
use crate::yaml::quoted;

pub(super) struct Tree {
    pub(super) root: Piece,
}

pub(super) struct Piece {
    pub(super) kind: Kind,
    /// 1-based, of the first character
    line: usize,
    column: usize,
    /// of the last character; not known for block collections
    end_line: usize,
}

pub(super) enum Kind {
    /// as it stands in the file, on one line
    Scalar(String),
    /// `|` or `>` with its indicators, and its lines without their common indentation
    Block {
        header: String,
        lines: Vec<String>,
    },
    List {
        flow: bool,
        slots: Vec<Slot>,
        tail: Vec<Remark>,
    },
    Map {
        flow: bool,
        slots: Vec<Slot>,
        tail: Vec<Remark>,
    },
}

/// An item of a list, or an entry of a mapping.
pub(super) struct Slot {
    /// empty in a list
    pub(super) key: String,
    /// the key as it is read
    name: String,
    line: usize,
    column: usize,
    pub(super) value: Piece,
    pub(super) above: Vec<Remark>,
    /// a blank line stands directly above
    pub(super) blank: bool,
    pub(super) beside: Option<Remark>,
}

/// A comment.
pub(super) struct Remark {
    /// with its `#`
    pub(super) text: String,
    line: usize,
    /// 0-based, in characters
    pub(super) column: usize,
    pub(super) blank: bool,
    own_line: bool,
}

/// `None` where the text is not YAML of the language. Callers have parsed it before.
pub(super) fn read(text: &str) -> Option<Tree> {
    let options = granit_parser::options! { max_buffered_comment_events: usize::MAX };
    let mut reader =
        Reader { text, lines: text.lines().collect(), remarks: Vec::new(), open: Vec::new(), root: None };
    for item in Parser::new_from_str_with_options(text, options) {
        let (event, span) = item.ok()?;
        reader.take(event, &span)?;
    }
    let mut root = reader.root?;
    let mut remarks = reader.remarks;
    remarks.sort_by_key(|remark| remark.line);
    let mut queue: VecDeque<Remark> = remarks.into();
    attach(&mut root, None, usize::MAX, &mut queue);
    if let Kind::List { tail, .. } | Kind::Map { tail, .. } = &mut root.kind {
        tail.extend(queue.drain(..));
    }
    queue.is_empty().then_some(Tree { root })
}

struct Reader<'t> {
    text: &'t str,
    lines: Vec<&'t str>,
    remarks: Vec<Remark>,
    open: Vec<(Piece, Option<Pending>)>,
    root: Option<Piece>,
}

/// A key whose value is still to come.
struct Pending {
    key: String,
    name: String,
    line: usize,
    column: usize,
}

impl Reader<'_> {
    fn take(&mut self, event: Event<'_>, span: &granit_parser::Span) -> Option<()> {
        let (line, column) = (span.start.line(), span.start.col());
        let piece = |kind| Piece { kind, line, column, end_line: span.end.line() };
        match event {
            Event::Comment(text, _) => {
                let before = self.lines.get(line.checked_sub(1)?)?.chars().take(column);
                let own_line = before.into_iter().all(char::is_whitespace);
                self.remarks.push(Remark {
                    text: format!("#{}", text.trim_end()),
                    line,
                    column,
                    blank: self.blank_above(line),
                    own_line,
                });
            }
            Event::Scalar(value, style, ..) => {
                let kind = self.scalar(&value, style, span)?;
                let piece = piece(kind);
                self.put(piece, &value);
            }
            Event::SequenceStart(style, ..) => {
                let flow = style == StructureStyle::Flow;
                self.open.push((piece(Kind::List { flow, slots: Vec::new(), tail: Vec::new() }), None));
            }
            Event::MappingStart(style, ..) => {
                let flow = style == StructureStyle::Flow;
                self.open.push((piece(Kind::Map { flow, slots: Vec::new(), tail: Vec::new() }), None));
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let (mut piece, _) = self.open.pop()?;
                piece.end_line = span.end.line();
                self.put(piece, "");
            }
            _ => {}
        }
        Some(())
    }

    fn put(&mut self, value: Piece, read: &str) {
        let blank = |lines: &Self, line| lines.blank_above(line);
        let Some((mut parent, pending)) = self.open.pop() else {
            self.root = Some(value);
            return;
        };
        let mut next = None;
        match (&mut parent.kind, pending) {
            (Kind::List { slots, .. }, _) => {
                let (line, column) = (value.line, self.dash(&value));
                slots.push(Slot::new(String::new(), String::new(), line, column, value, blank(self, line)));
            }
            (Kind::Map { .. }, None) => {
                let key = match &value.kind {
                    Kind::Scalar(raw) => raw.clone(),
                    Kind::Block { .. } | Kind::List { .. } | Kind::Map { .. } => String::new(),
                };
                next = Some(Pending { key, name: read.to_owned(), line: value.line, column: value.column });
            }
            (Kind::Map { slots, .. }, Some(p)) => {
                let mut value = value;
                if matches!(&value.kind, Kind::Scalar(raw) if raw.is_empty()) {
                    // Nothing has no place of its own.
                    (value.line, value.end_line) = (p.line, p.line);
                }
                let blank = blank(self, p.line);
                slots.push(Slot::new(p.key, p.name, p.line, p.column, value, blank));
            }
            (Kind::Scalar(_) | Kind::Block { .. }, _) => {}
        }
        self.open.push((parent, next));
    }

    fn scalar(&self, value: &str, style: ScalarStyle, span: &granit_parser::Span) -> Option<Kind> {
        let raw = span.slice(self.text)?;
        Some(match style {
            ScalarStyle::Literal | ScalarStyle::Folded => {
                self.block(span).unwrap_or_else(|| Kind::Scalar(quoted(value)))
            }
            _ if raw.contains('\n') => Kind::Scalar(quoted(value)),
            _ => Kind::Scalar(raw.trim_end().to_owned()),
        })
    }

    /// The lines of a block text as they stand. `None` where they would not show what it says.
    fn block(&self, span: &granit_parser::Span) -> Option<Kind> {
        // The span is that of the text; its header ends the line with the key.
        let before = self.lines.get(..span.start.line().checked_sub(1)?)?;
        let above = before.iter().rposition(|line| !line.trim().is_empty())?;
        let code = before.get(above)?.split(" #").next()?;
        let header = code.split_whitespace().next_back()?;
        if !["|", ">", "|-", ">-", "|+", ">+"].contains(&header) {
            return None;
        }
        let depth = |line: &str| line.chars().take_while(|c| *c == ' ').count();
        let own = span.start.col();
        let mut lines: Vec<String> = self
            .lines
            .get(above + 1..)?
            .iter()
            .take_while(|line| line.trim().is_empty() || depth(line) >= own)
            .map(|line| line.get(own..).unwrap_or_default().to_owned())
            .collect();
        if lines.iter().any(|line| !line.is_empty() && line.trim().is_empty()) {
            // Spaces of the text itself, which nobody sees and an editor may take away.
            return None;
        }
        while lines.last().is_some_and(String::is_empty) && !header.contains('+') {
            lines.pop();
        }
        Some(Kind::Block { header: header.to_owned(), lines })
    }

    /// Where the item of a list begins, which is before its value.
    fn dash(&self, value: &Piece) -> usize {
        let line = self.lines.get(value.line.saturating_sub(1)).copied().unwrap_or_default();
        let before: String = line.chars().take(value.column).collect();
        match before.trim_end().strip_suffix('-') {
            Some(before) => before.chars().count(),
            None => value.column.saturating_sub(2),
        }
    }

    fn blank_above(&self, line: usize) -> bool {
        line >= 2 && self.lines.get(line - 2).is_some_and(|above| above.trim().is_empty())
    }
}

impl Slot {
    fn new(key: String, name: String, line: usize, column: usize, value: Piece, blank: bool) -> Self {
        Slot { key, name, line, column, value, above: Vec::new(), blank, beside: None }
    }

    /// The key as it is read; empty in a list.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Where it begins, from 1.
    pub(super) fn line(&self) -> usize {
        self.line
    }
}

/// Hands each comment to the slot it belongs to: above it, beside it, or at the end of its collection.
fn attach(piece: &mut Piece, outer: Option<usize>, until: usize, queue: &mut VecDeque<Remark>) {
    let (Kind::List { flow, slots, tail } | Kind::Map { flow, slots, tail }) = &mut piece.kind else {
        return;
    };
    if *flow {
        // A collection with comments between its lines is written out.
        let inside = queue.front().is_some_and(|remark| remark.line < piece.end_line);
        if !inside {
            return;
        }
        *flow = false;
    }
    let column = slots.first().map(|slot| slot.column);
    let lines: Vec<usize> = slots.iter().map(|slot| slot.line).collect();
    for (number, slot) in slots.iter_mut().enumerate() {
        let next = lines.get(number + 1).copied().unwrap_or(until);
        while queue.front().is_some_and(|remark| remark.own_line && remark.line < slot.line) {
            slot.above.extend(queue.pop_front());
        }
        let beside = match &slot.value.kind {
            // The line of a list item is the line of its first entry, which takes the comment itself.
            Kind::List { flow: false, .. } | Kind::Map { flow: false, .. } if slot.key.is_empty() => None,
            Kind::List { flow: false, .. } | Kind::Map { flow: false, .. } | Kind::Block { .. } => {
                Some(slot.line)
            }
            Kind::List { .. } | Kind::Map { .. } | Kind::Scalar(_) => Some(slot.value.end_line),
        };
        let beside = beside.filter(|line| next > *line);
        if matches!(&slot.value.kind, Kind::List { flow: false, .. } | Kind::Map { flow: false, .. }) {
            slot.beside = take_beside(beside, queue);
            attach(&mut slot.value, column, next, queue);
        } else {
            attach(&mut slot.value, column, next, queue);
            slot.beside = take_beside(beside, queue);
        }
    }
    let Some(column) = column.filter(|column| outer.is_none_or(|outer| *column > outer)) else { return };
    while queue.front().is_some_and(|r| r.own_line && r.line < until && r.column >= column) {
        tail.extend(queue.pop_front());
    }
}

fn take_beside(line: Option<usize>, queue: &mut VecDeque<Remark>) -> Option<Remark> {
    let is_beside = queue.front().is_some_and(|remark| !remark.own_line && Some(remark.line) == line);
    if is_beside { queue.pop_front() } else { None }
}

impl Tree {
    /// Brings the keys of every mapping into the order of the language's tables.
    pub(super) fn order(&mut self, form: &Form) {
        order(&mut self.root, form);
    }

    pub(super) fn all_comments(&self) -> impl Iterator<Item = &str> {
        let mut found = Vec::new();
        collect(&self.root, &mut found);
        found.into_iter()
    }
}

fn order(piece: &mut Piece, form: &Form) {
    match (form, &mut piece.kind) {
        (Form::Section(shape) | Form::OneOf(shape), Kind::Map { slots, .. }) => {
            slots.sort_by_key(|slot| place(shape, &slot.name));
            for slot in slots {
                if let Some(field) = shape.known.iter().find(|field| field.name == slot.name) {
                    order(&mut slot.value, field.form);
                }
            }
        }
        (Form::List(items) | Form::OneOrList(items), Kind::List { slots, .. }) => {
            slots.iter_mut().for_each(|slot| order(&mut slot.value, items));
        }
        (Form::Named(values) | Form::Keyed(values), Kind::Map { slots, .. }) => {
            slots.iter_mut().for_each(|slot| order(&mut slot.value, values));
        }
        (Form::OneOrList(items), Kind::Map { .. }) => order(piece, items),
        (Form::Either(forms), _) => forms.iter().for_each(|form| order(piece, form)),
        (
            Form::Text(_)
            | Form::Prose
            | Form::Words(_)
            | Form::Section(_)
            | Form::OneOf(_)
            | Form::List(_)
            | Form::OneOrList(_)
            | Form::Named(_)
            | Form::Keyed(_)
            | Form::Scalar
            | Form::Any,
            _,
        ) => {}
    }
}

/// Unknown words come last, in the order of the file.
fn place(shape: &Shape, name: &str) -> usize {
    shape.names().position(|known| known == name).unwrap_or(usize::MAX)
}

fn collect<'t>(piece: &'t Piece, found: &mut Vec<&'t str>) {
    let (Kind::List { slots, tail, .. } | Kind::Map { slots, tail, .. }) = &piece.kind else { return };
    for slot in slots {
        found.extend(slot.above.iter().chain(&slot.beside).map(|remark| remark.text.as_str()));
        collect(&slot.value, found);
    }
    found.extend(tail.iter().map(|remark| remark.text.as_str()));
}
