//! The tree as text: two spaces a level, `- ` inside it, `{ key: value }` and `[a, b]` where they were.

use super::tree::{Kind, Piece, Remark, Slot, Tree};

/// A line this long is still read at one glance; a longer flow collection is written out.
const WIDTH: usize = 120;

pub(super) fn print(tree: &Tree) -> String {
    let mut printer = Printer { out: String::new() };
    match &tree.root.kind {
        Kind::List { slots, tail, .. } => printer.list(slots, tail, 0),
        Kind::Map { slots, tail, .. } => printer.sections(slots, tail),
        Kind::Scalar(_) | Kind::Block { .. } => printer.value(&tree.root, None, 0),
    }
    let text = printer.out.trim_matches('\n');
    format!("{text}\n")
}

struct Printer {
    out: String,
}

impl Printer {
    /// The top level: a section of several lines stands apart from what is around it.
    fn sections(&mut self, slots: &[Slot], tail: &[Remark]) {
        let mut after_block = false;
        for slot in slots {
            let block = !is_inline(&slot.value, slot.key.chars().count() + 2);
            let apart = block || after_block;
            self.above(slot, 0, apart);
            self.out.push_str(&slot.key);
            self.out.push(':');
            self.value(&slot.value, slot.beside.as_ref(), 0);
            after_block = block;
        }
        self.remarks(tail, 0);
    }

    fn map(&mut self, slots: &[Slot], tail: &[Remark], indent: usize) {
        for slot in slots {
            self.above(slot, indent, false);
            self.indent(indent);
            self.entry(slot, indent);
        }
        self.remarks(tail, indent);
    }

    fn list(&mut self, slots: &[Slot], tail: &[Remark], indent: usize) {
        for slot in slots {
            self.above(slot, indent, false);
            match &slot.value.kind {
                Kind::Map { slots: entries, tail, .. } if !is_inline(&slot.value, indent + 2) => {
                    // The first entry stands behind the dash, its comments above it.
                    for (number, entry) in entries.iter().enumerate() {
                        if number == 0 {
                            self.remarks(&entry.above, indent);
                            self.indent(indent);
                            self.out.push_str("- ");
                        } else {
                            self.above(entry, indent + 2, false);
                            self.indent(indent + 2);
                        }
                        self.entry(entry, indent + 2);
                    }
                    self.remarks(tail, indent + 2);
                }
                _ => {
                    self.indent(indent);
                    self.out.push('-');
                    self.value(&slot.value, slot.beside.as_ref(), indent);
                }
            }
        }
        self.remarks(tail, indent);
    }

    fn entry(&mut self, slot: &Slot, indent: usize) {
        self.out.push_str(&slot.key);
        self.out.push(':');
        self.value(&slot.value, slot.beside.as_ref(), indent);
    }

    /// What follows a `:` or a `-`, to the end of its last line.
    fn value(&mut self, piece: &Piece, beside: Option<&Remark>, indent: usize) {
        if is_inline(piece, self.column() + 1) {
            let text = inline(piece);
            if !text.is_empty() {
                self.space();
                self.out.push_str(&text);
            }
            return self.end(beside);
        }
        match &piece.kind {
            Kind::Block { header, lines } => {
                self.space();
                self.out.push_str(header);
                self.end(beside);
                for line in lines {
                    if !line.trim().is_empty() {
                        self.indent(indent + 2);
                        self.out.push_str(line);
                    }
                    self.out.push('\n');
                }
            }
            Kind::List { slots, tail, .. } => {
                self.end(beside);
                self.list(slots, tail, indent + 2);
            }
            Kind::Map { slots, tail, .. } => {
                self.end(beside);
                self.map(slots, tail, indent + 2);
            }
            Kind::Scalar(_) => self.end(beside),
        }
    }

    fn above(&mut self, slot: &Slot, indent: usize, apart: bool) {
        let mut apart = apart;
        for remark in &slot.above {
            self.blank(remark.blank || apart);
            apart = false;
            self.indent(indent);
            self.out.push_str(&remark.text);
            self.out.push('\n');
        }
        self.blank(slot.blank || apart);
    }

    fn remarks(&mut self, remarks: &[Remark], indent: usize) {
        for remark in remarks {
            self.blank(remark.blank);
            self.indent(indent);
            self.out.push_str(&remark.text);
            self.out.push('\n');
        }
    }

    /// At most one, and none where a collection or the file begins.
    fn blank(&mut self, wanted: bool) {
        let begins = self.out.is_empty() || self.out.ends_with("\n\n") || self.last_line().ends_with(':');
        if wanted && !begins {
            self.out.push('\n');
        }
    }

    fn indent(&mut self, by: usize) {
        self.out.extend(std::iter::repeat_n(' ', by));
    }

    fn space(&mut self) {
        self.out.push(' ');
    }

    /// Ends the line. Comments that were lined up stay lined up.
    fn end(&mut self, beside: Option<&Remark>) {
        if let Some(remark) = beside {
            let gap = remark.column.saturating_sub(self.column()).max(2);
            self.out.extend(std::iter::repeat_n(' ', gap));
            self.out.push_str(&remark.text);
        }
        self.out.push('\n');
    }

    fn last_line(&self) -> &str {
        self.out.trim_end_matches('\n').rsplit('\n').next().unwrap_or_default()
    }

    fn column(&self) -> usize {
        self.out.rsplit('\n').next().unwrap_or_default().chars().count()
    }
}

/// May it stand behind its key?
fn is_inline(piece: &Piece, from: usize) -> bool {
    match &piece.kind {
        Kind::Scalar(_) => true,
        Kind::Block { .. } => false,
        Kind::List { flow, slots, .. } | Kind::Map { flow, slots, .. } => {
            slots.is_empty() || *flow && fits(piece) && from + inline(piece).chars().count() <= WIDTH
        }
    }
}

fn fits(piece: &Piece) -> bool {
    match &piece.kind {
        Kind::Scalar(_) => true,
        Kind::Block { .. } => false,
        Kind::List { flow, slots, .. } | Kind::Map { flow, slots, .. } => {
            *flow && slots.iter().all(|slot| fits(&slot.value))
        }
    }
}

fn inline(piece: &Piece) -> String {
    let joined = |slots: &[Slot]| slots.iter().map(slot_inline).collect::<Vec<_>>().join(", ");
    match &piece.kind {
        Kind::Scalar(raw) => raw.clone(),
        Kind::Block { .. } => String::new(),
        Kind::List { slots, .. } => format!("[{}]", joined(slots)),
        Kind::Map { slots, .. } if slots.is_empty() => "{}".to_owned(),
        Kind::Map { slots, .. } => format!("{{ {} }}", joined(slots)),
    }
}

fn slot_inline(slot: &Slot) -> String {
    let value = inline(&slot.value);
    if slot.key.is_empty() {
        value
    } else if value.is_empty() {
        format!("{}:", slot.key)
    } else {
        format!("{}: {value}", slot.key)
    }
}
