//! The parser's complaints in the words of someone who writes a policy.

use serde_saphyr::granit_parser::{ErrorKind, ScanError};

use crate::diagnostics::{File, Finding, Span};

pub(super) fn translate(file: &File, error: &ScanError) -> Finding {
    let offset = offset(file, error);
    let found = file.text.get(offset..).and_then(|rest| rest.chars().next());
    let (message, hint) = words(error.kind(), found);
    let end = offset + found.filter(|c| *c != '\n').map_or(0, char::len_utf8);
    let span: Span = offset..end;
    let finding = Finding::error("E001", file, &span, message);
    match hint {
        Some(hint) => finding.hint(hint),
        None => finding,
    }
}

/// Scan errors carry line and column always, a byte offset only sometimes.
fn offset(file: &File, error: &ScanError) -> usize {
    let marker = error.marker();
    let computed = || {
        let mut lines = file.text.split_inclusive('\n');
        let before: usize = lines.by_ref().take(marker.line().saturating_sub(1)).map(str::len).sum();
        let line = lines.next().unwrap_or_default();
        before + line.char_indices().nth(marker.col()).map_or(line.trim_end().len(), |(at, _)| at)
    };
    let offset = marker.byte_offset().unwrap_or_else(computed);
    if file.text.is_char_boundary(offset) { offset } else { file.text.len() }
}

fn words(kind: &ErrorKind, found: Option<char>) -> (String, Option<&'static str>) {
    use ErrorKind as K;
    let (message, hint) = match kind {
        K::UnexpectedCharacter { .. } | K::ExpectedNodeContent
            if let Some(c @ ('@' | '`' | '%' | '!' | '&' | '|' | '>')) = found =>
        {
            let message = format!("a value that starts with `{c}` must be in quotes");
            return (message, Some("put it in double quotes"));
        }
        K::MissingAnchorOrAliasName => (
            "a value that starts with `*` or `&` must be in quotes",
            Some("put it in double quotes; in YAML a bare `*` refers to an anchor"),
        ),
        K::TabNotAllowed
        | K::TabInBlockIndentation
        | K::TabInIndentation
        | K::TabInPlainScalar
        | K::TabAtBlockScalarStart => {
            ("a tab stands where only spaces may stand", Some("indent with spaces"))
        }
        K::MappingValueNotAllowed | K::InvalidColonPlacement => (
            "a `:` stands where none may stand",
            Some("a value that holds `: ` must be in quotes; otherwise check the indentation"),
        ),
        K::InvalidMappingValueWhitespace | K::ExpectedWhitespace => {
            ("a space is missing", Some("write `key: value` and `- item`"))
        }
        K::ExpectedBlockMappingKey
        | K::InvalidIndentation
        | K::ExpectedBlockSequenceEntry
        | K::InvalidFlowScalarIndent
        | K::MappingKeyNotAllowed
        | K::BlockSequenceEntryNotAllowed
        | K::InvalidQuotedScalarIndent => (
            "this line is indented differently from the lines it belongs to",
            Some("line it up with its neighbours"),
        ),
        K::SimpleKeyExpected | K::InvalidSimpleKey => ("this key has no `:`", Some("write `key: value`")),
        K::UnexpectedEofFlowSequence | K::UnclosedFlowCollection { open: '[' } => {
            ("a `[` is never closed", None)
        }
        K::UnexpectedEofFlowMapping
        | K::UnexpectedEofImplicitFlowMapping
        | K::UnclosedFlowCollection { .. } => ("a `{` is never closed", None),
        K::ExpectedFlowMappingSeparator => ("a `,` or `}` is missing", None),
        K::ExpectedFlowSequenceSeparator => ("a `,` or `]` is missing", None),
        K::MisplacedFlowCollectionEnd => ("this bracket closes nothing", None),
        K::MismatchedFlowCollectionEnd { open, close } => {
            return (format!("a `{open}` is closed by a `{close}`"), None);
        }
        K::UnclosedQuotedScalar | K::DocumentIndicatorInQuotedScalar => ("a quote is never closed", None),
        K::InvalidTrailingSingleQuotedScalar | K::InvalidTrailingDoubleQuotedScalar => {
            ("text follows the closing quote", None)
        }
        K::UnknownQuotedScalarEscape => {
            ("this is not an escape YAML knows", Some("in double quotes, write a backslash as `\\\\`"))
        }
        K::DirectiveDisallowed => {
            ("`%` directives are not part of the policy language", Some("remove the line"))
        }
        K::RecursionLimitExceeded => ("the file is nested too deeply", None),
        K::UnexpectedEof | K::UnexpectedEofBlockMapping | K::UnexpectedEofBlockSequence => {
            ("the file ends in the middle of something", None)
        }
        other => return (format!("this is not YAML: {other}"), None),
    };
    (message.to_owned(), hint)
}
