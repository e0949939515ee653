//! One finding as text, drawn by annotate-snippets.

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

use super::{Cite, Finding, Mark, Span};

pub(super) fn draw(finding: &Finding, color: bool) -> String {
    let level = if finding.error { Level::ERROR } else { Level::WARNING };
    let title = if finding.cites.is_empty() {
        format!("{}: {}", finding.file, finding.message)
    } else {
        finding.message.clone()
    };
    let windows: Vec<(&Cite, Span)> = finding.cites.iter().map(|cite| (cite, window(cite))).collect();
    let mut group = level.primary_title(&title).id(finding.code).elements(windows.iter().map(snippet));
    if let Some(hint) = &finding.hint {
        group = group.element(Level::HELP.message(hint));
    }
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    renderer.render(&[group])
}

/// The lines from the first mark to the last; the renderer need not read a megabyte to cite one line.
fn window(cite: &Cite) -> Span {
    let text = &cite.file.text;
    let first = cite.marks.iter().map(|mark| mark.span.start).min().unwrap_or(0);
    let last = cite.marks.iter().map(|mark| mark.span.start).max().unwrap_or(0);
    let start = text.get(..first).and_then(|before| before.rfind('\n')).map_or(0, |at| at + 1);
    start..line_end(text, last)
}

fn line_end(text: &str, offset: usize) -> usize {
    text.get(offset..).and_then(|after| after.find('\n')).map_or(text.len(), |at| offset + at)
}

fn snippet<'a>((cite, window): &'a (&Cite, Span)) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
    let text = cite.file.text.get(window.clone()).unwrap_or_default();
    let (line, _) = cite.file.position(window.start);
    Snippet::source(text)
        .path(&*cite.file.name)
        .line_start(line)
        .annotations(cite.marks.iter().map(|mark| annotation(cite, window, mark)))
}

fn annotation<'a>(cite: &Cite, window: &Span, mark: &'a Mark) -> annotate_snippets::Annotation<'a> {
    let kind = if mark.primary { AnnotationKind::Primary } else { AnnotationKind::Context };
    // A mapping or a block text may run over many lines; its first line is enough to find it.
    let end = mark.span.end.min(line_end(&cite.file.text, mark.span.start));
    let span = mark.span.start - window.start..end.max(mark.span.start) - window.start;
    match &mark.label {
        Some(label) => kind.span(span).label(label),
        None => kind.span(span),
    }
}
