//! `receipts export`: page after page, to standard output or into a new file.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;

use anyhow::Context as _;

use super::{ExportArgs, Format};
use crate::audit::{Query, Receipt, export};
use crate::cli::{Failure, Output};

/// Asks for receipts page by page until there are no more.
pub(in crate::cli) fn export(
    args: &ExportArgs,
    out: &mut Output,
    mut fetch: impl FnMut(&Query) -> Result<Vec<Receipt>, Failure>,
) -> Result<(), Failure> {
    let mut query = args.filter.query();
    let mut pages = std::iter::from_fn(|| {
        // With a limit the newest are meant, which one question answers.
        let last = query.limit.is_some() && query.after_seq.is_some();
        if query.limit.is_none() {
            query.after_seq = query.after_seq.or(Some(0));
        }
        let asked = Query { limit: query.limit.or(Some(PAGE)), ..query.clone() };
        let page = if last { Ok(Vec::new()) } else { fetch(&asked) };
        if let Ok(page) = &page {
            query.after_seq = page.last().map(|receipt| receipt.seq).or(query.after_seq);
        }
        page.map(|page| (!page.is_empty()).then_some(page)).transpose()
    });
    match &args.output {
        None => {
            let printed = write_pages(args.format, out, &mut pages)?;
            out.written(printed)
        }
        Some(path) => {
            let cannot = || format!("cannot write {}; name a file that does not exist yet", path.display());
            let file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)
                .with_context(cannot)?;
            let mut file = io::BufWriter::new(file);
            write_pages(args.format, &mut file, &mut pages)?.with_context(cannot)?;
            file.into_inner()
                .map_err(io::IntoInnerError::into_error)
                .and_then(|file| file.sync_all())
                .with_context(cannot)?;
            Ok(())
        }
    }
}

const PAGE: u32 = 1000;

/// Outside: what asking failed with; inside: what writing failed with.
fn write_pages(
    format: Format,
    out: &mut dyn Write,
    pages: &mut dyn Iterator<Item = Result<Vec<Receipt>, Failure>>,
) -> Result<io::Result<()>, Failure> {
    let mut result = match format {
        Format::Jsonl => Ok(()),
        Format::Csv => export::csv_header(out),
    };
    for page in pages {
        let page = page?;
        result = result.and_then(|()| match format {
            Format::Jsonl => export::jsonl(out, &page),
            Format::Csv => export::csv(out, &page),
        });
        if result.is_err() {
            break;
        }
    }
    Ok(result.and_then(|()| out.flush()))
}
