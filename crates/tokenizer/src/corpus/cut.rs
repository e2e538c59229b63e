//! Where documents end: at separators that are spelled out, and in a lone text at the best places
//! that there are.

use super::Document;

/// Into how many documents a lone text is cut: with twenty, holding out a tenth costs two places in
/// the text.
pub(super) const TXT_DOCUMENTS: usize = 20;

/// Between documents, in texts that were made for training: what is around it was read apart.
const SEPARATORS: [&str; 3] = ["<|endoftext|>", "<|end_of_text|>", "<|begin_of_text|>"];

/// The parts of a document between separators, numbered if there are several; a byte-order mark at
/// the beginning of each is no text.
pub(super) fn separated(document: Document) -> Vec<Document> {
    let Document { id, text } = document;
    let mut parts = vec![&text[..]];
    for separator in SEPARATORS {
        parts = parts.into_iter().flat_map(|part| split(part, separator)).collect();
    }
    let unmarked = |part: &&str| part.trim_start_matches('\u{feff}').to_owned();
    if let [whole] = &parts[..] {
        let text = if whole.starts_with('\u{feff}') { unmarked(whole) } else { text };
        return Vec::from_iter((!text.is_empty()).then_some(Document { id, text }));
    }
    let above = if id.is_empty() { id } else { format!("{id}/") };
    let parts = parts.iter().map(unmarked).filter(|part| !part.trim().is_empty());
    let named = |(k, text): (usize, String)| Document { id: format!("{above}{}", k + 1), text };
    parts.enumerate().map(named).collect()
}

/// The parts between the separators that are not in quotes: those are what a text is about, such as
/// a program's. A quote ends what is said before it, and is then none around the separator.
fn split<'a>(text: &'a str, separator: &str) -> Vec<&'a str> {
    let quote = |c: &char| matches!(c, '"' | '\'' | '`');
    let (mut parts, mut from) = (Vec::new(), 0);
    for (at, _) in text.match_indices(separator) {
        let after = at + separator.len();
        let mut before = text[..at].chars().rev();
        let opens = before.next().filter(quote);
        let ends_speech = |c: char| c.is_alphanumeric() || matches!(c, '.' | ',' | '!' | '?' | '…');
        let is_quoted = opens.is_some()
            && opens == text[after..].chars().next()
            && !before.next().is_some_and(ends_speech);
        if !is_quoted {
            parts.push(&text[from..at]);
            from = after;
        }
    }
    parts.push(&text[from..]);
    parts
}

/// Cuts a text into about [`TXT_DOCUMENTS`] documents at blank lines or line ends; their texts
/// concatenated are the text.
pub(super) fn cut_text(text: &str) -> Vec<Document> {
    parts(text, &at_lines(text)).map(|(id, text)| Document { id, text: text.to_owned() }).collect()
}

/// Cuts a lone document likewise, at lines if there are enough of them, else at the best places
/// that there are.
pub(super) fn cut_lone(whole: &Document) -> Vec<Document> {
    let text = &whole.text;
    let fits = |starts: &[usize]| longest(starts, text.len()) <= text.len() / 4;
    let mut starts = at_lines(text);
    for is_end in [ends_sentence, ends_word, |_: &str| true] {
        if fits(&starts) {
            break;
        }
        starts = near_ends(text, is_end);
    }
    parts(text, &starts)
        .map(|(id, text)| Document { id: format!("{}/{id}", whole.id), text: text.to_owned() })
        .collect()
}

/// The texts from each start to the next, with names that say which.
fn parts<'a>(text: &'a str, starts: &'a [usize]) -> impl Iterator<Item = (String, &'a str)> {
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    let parts = starts.iter().zip(ends).filter(|(start, end)| *start < end);
    parts.enumerate().map(|(k, (&start, end))| (format!("part-{:02}", k + 1), &text[start..end]))
}

fn at_lines(text: &str) -> Vec<usize> {
    // Lines of old Macintosh files end with a carriage return alone.
    let end = if text.contains('\n') { '\n' } else { '\r' };
    let lines: Vec<usize> = text.match_indices(end).map(|(at, _)| at + 1).collect();
    let blank =
        |at: &usize| text[..at - 1].rsplit(end).next().is_some_and(|line| line.trim().is_empty());
    let paragraphs: Vec<usize> = lines.iter().copied().filter(blank).collect();
    let starts = near_equal(&paragraphs, text.len());
    // Too few blank lines, or in the wrong places: a piece of a quarter of the text is no unit to
    // hold out.
    if longest(&starts, text.len()) > text.len() / 4 {
        near_equal(&lines, text.len())
    } else {
        starts
    }
}

fn ends_sentence(before: &str) -> bool {
    [". ", "! ", "? ", "\u{3002}", "\u{ff01}", "\u{ff1f}"].iter().any(|end| before.ends_with(end))
}

fn ends_word(before: &str) -> bool {
    before.ends_with(char::is_whitespace)
}

/// Equal steps through the text, each moved to the nearest place that `is_end` knows by the text
/// before it, if there is one within half a step; 0 first, strictly rising.
fn near_ends(text: &str, is_end: fn(&str) -> bool) -> Vec<usize> {
    let mut starts = vec![0];
    let reach = text.len() / TXT_DOCUMENTS / 2;
    for ideal in (1..TXT_DOCUMENTS).map(|k| ideal(k, text.len())) {
        // A character has at most four bytes, so that one of the first places is between two.
        let places =
            (0..=reach.max(3)).flat_map(|d| [ideal.checked_sub(d), Some(ideal + d)]).flatten();
        let mut places = places.filter(|&at| at > starts[starts.len() - 1] && at < text.len());
        let found = places.find(|&at| text.is_char_boundary(at) && is_end(&text[..at]));
        starts.extend(found);
    }
    starts
}

/// The `k`-th of [`TXT_DOCUMENTS`] equal steps through `0..length`.
fn ideal(k: usize, length: usize) -> usize {
    (k as u128 * length as u128 / TXT_DOCUMENTS as u128) as usize
}

/// Of the sorted `candidates`, those nearest to equal steps through `0..length`; 0 first, strictly
/// rising.
fn near_equal(candidates: &[usize], length: usize) -> Vec<usize> {
    let mut starts = vec![0];
    for ideal in (1..TXT_DOCUMENTS).map(|k| ideal(k, length)) {
        let after = candidates.partition_point(|&c| c < ideal);
        let nearest =
            candidates[after.saturating_sub(1)..].iter().take(2).min_by_key(|c| c.abs_diff(ideal));
        starts.extend(nearest.filter(|&&c| c > starts[starts.len() - 1] && c < length));
    }
    starts
}

fn longest(starts: &[usize], length: usize) -> usize {
    let ends = starts.iter().skip(1).copied().chain([length]);
    starts.iter().zip(ends).map(|(start, end)| end - start).max().unwrap_or(0)
}
