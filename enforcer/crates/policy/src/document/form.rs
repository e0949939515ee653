//! What the value of a field may look like, as data: the reader's tables and the JSON Schema share it.
//!
//! Left out: reading. A form says what an editor can check while one types; what takes more than the
//! shape of a text (is this host a name, is this rate countable) stays the reader's.

/// A mapping with a fixed set of keys.
pub(crate) struct Shape {
    /// as in "unknown field `x` in …"
    pub(crate) what: &'static str,
    pub(crate) known: &'static [Field],
    /// known words that are refused, because this version cannot enforce them
    pub(crate) later: &'static [&'static str],
    /// fields that must be there
    pub(crate) needs: &'static [&'static str],
    /// fields that are known, and an error just here
    pub(crate) not_here: &'static [&'static str],
}

/// One key of a [`Shape`].
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) form: &'static Form,
    /// one sentence for whoever hovers over it in an editor
    pub(crate) about: &'static str,
}

pub(crate) enum Form {
    /// one line of a form of its own
    Text(&'static Text),
    /// text for people
    Prose,
    /// one of a few words
    Words(&'static [&'static str]),
    Section(&'static Shape),
    /// exactly one of the keys
    OneOf(&'static Shape),
    List(&'static Form),
    OneOrList(&'static Form),
    /// a mapping from names of the user's choosing
    Named(&'static Form),
    /// a mapping from names that the server chose
    Keyed(&'static Form),
    /// any single value
    Scalar,
    /// whatever YAML can say
    Any,
    Either(&'static [Form]),
}

/// Texts that are told by a pattern.
pub(crate) struct Text {
    /// ECMA-262, anchored; takes whatever the reader takes
    pub(crate) pattern: &'static str,
    /// the first one is what an editor offers
    pub(crate) examples: &'static [&'static str],
    /// may be written without quotes as a YAML number from … to …
    pub(crate) number: Option<(u64, u64)>,
}

impl Shape {
    /// The usual: every known field may be there, none must.
    pub(super) const fn of(what: &'static str, known: &'static [Field]) -> Self {
        Shape { what, known, later: &[], needs: &[], not_here: &[] }
    }

    pub(super) const fn later(mut self, words: &'static [&'static str]) -> Self {
        self.later = words;
        self
    }

    pub(super) const fn needs(mut self, fields: &'static [&'static str]) -> Self {
        self.needs = fields;
        self
    }

    pub(super) const fn not_here(mut self, fields: &'static [&'static str]) -> Self {
        self.not_here = fields;
        self
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.known.iter().map(|field| field.name)
    }

    pub(super) fn listed(&self) -> String {
        self.names().collect::<Vec<_>>().join(", ")
    }
}

pub(super) const fn field(name: &'static str, form: &'static Form, about: &'static str) -> Field {
    Field { name, form, about }
}

pub(super) const fn text(pattern: &'static str, examples: &'static [&'static str]) -> Text {
    Text { pattern, examples, number: None }
}
