//! Logs: to standard error, for people on a terminal and for journald under systemd.
//!
//! `ENFORCER_LOG` chooses what is shown (`info`, `enforcer::dns=debug`, …). Text that came from
//! outside is escaped here, whatever the call site did: a log line is one line, and has no escapes.

use std::fmt::{self, Write as _};
use std::io::IsTerminal;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::text::shown;

/// Sets up logging for this process; a second call changes nothing.
pub fn init() {
    let filter = EnvFilter::try_from_env("ENFORCER_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let journal = std::env::var_os("JOURNAL_STREAM").is_some();
    let layout = if journal {
        Layout::Journal
    } else if std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()) {
        Layout::Colour
    } else {
        Layout::Plain
    };
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(layout == Layout::Colour)
        .event_format(Lines { layout })
        .finish();
    if tracing::subscriber::set_global_default(subscriber).is_err() {
        tracing::debug!("logging was already set up");
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// Priority in front, no time: journald adds its own.
    Journal,
    Colour,
    Plain,
}

struct Lines {
    layout: Layout,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let level = *event.metadata().level();
        match self.layout {
            Layout::Journal => write!(writer, "<{}>", priority(level))?,
            Layout::Plain => write!(writer, "{} {level:>5} ", now())?,
            Layout::Colour => {
                let style = style(level);
                write!(writer, "\x1b[2m{}\x1b[0m {style}{level:>5}{style:#} ", now())?;
            }
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        writer.write_str(&fields.message)?;
        if !fields.rest.is_empty() {
            match self.layout {
                Layout::Colour => write!(writer, "\x1b[2m{}\x1b[0m", fields.rest)?,
                Layout::Journal | Layout::Plain => writer.write_str(&fields.rest)?,
            }
        }
        writeln!(writer)
    }
}

/// sd-daemon(3).
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

fn style(level: Level) -> anstyle::Style {
    let color = match level {
        Level::ERROR => anstyle::AnsiColor::Red,
        Level::WARN => anstyle::AnsiColor::Yellow,
        Level::INFO => anstyle::AnsiColor::Green,
        _ => anstyle::AnsiColor::Blue,
    };
    color.on_default()
}

/// Time of day in UTC; the date is the terminal's, the journal has its own.
fn now() -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let (seconds, millis) = (since.as_secs() % 86_400, since.subsec_millis());
    format!("{:02}:{:02}:{:02}.{millis:03}Z", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// The message and ` key=value` pairs, escaped.
#[derive(Default)]
struct Fields {
    message: String,
    rest: String,
}

impl Fields {
    fn add(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        let mut text = String::new();
        // Writing to a String cannot fail; a value whose own formatting fails shows as far as it got.
        let written = text.write_fmt(value);
        if field.name() == "message" {
            self.message.push_str(&shown(&text));
        } else {
            self.rest.push_str(&format!(" {}={}", field.name(), shown(&text)));
        }
        if written.is_err() {
            self.rest.push_str(" (cut)");
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format_args!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, format_args!("{value}"));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = value.to_string();
        let mut source = value.source();
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        self.add(field, format_args!("{text}"));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(layout: Layout, log: impl FnOnce()) -> String {
        let sink = Sink::default();
        let writer = sink.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .with_ansi(layout == Layout::Colour)
            .event_format(Lines { layout })
            .finish();
        tracing::subscriber::with_default(subscriber, log);
        let bytes = sink.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_value_cannot_start_a_line_or_move_the_cursor() {
        let hostile = "a\nERROR b\r\x1b[2J\u{202e}c";
        for layout in [Layout::Journal, Layout::Plain] {
            let text = logged(layout, || tracing::info!(host = hostile, shown = %hostile, "request refused"));
            assert_eq!(text.lines().count(), 1, "{text}");
            assert!(!text.trim_end().contains(crate::text::hidden), "{text:?}");
        }
    }

    #[test]
    fn the_journal_gets_a_priority_and_the_chain_of_causes() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] std::io::Error);
        let outer = Outer(std::io::Error::other("inner"));
        let text = logged(Layout::Journal, || {
            tracing::warn!(error = &outer as &dyn std::error::Error, "cannot");
        });
        assert_eq!(text, "<4>cannot error=outer: inner\n");
    }
}
