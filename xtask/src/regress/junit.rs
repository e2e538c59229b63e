//! What came of the checks: a table to read, and JUnit's XML for machines.

use std::fmt::Write as _;

/// What came of a check.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Outcome {
    /// With what was seen.
    Passed(String),
    /// A regression, and its evidence.
    Failed(String),
    /// And why.
    Skipped(String),
    /// It could not be run, and why.
    Broken(String),
}

impl Outcome {
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Passed(_) => "passed",
            Self::Failed(_) => "FAILED",
            Self::Skipped(_) => "skipped",
            Self::Broken(_) => "could not run",
        }
    }

    pub(super) fn said(&self) -> &str {
        match self {
            Self::Passed(said) | Self::Failed(said) | Self::Skipped(said) | Self::Broken(said) => {
                said
            }
        }
    }
}

/// A check that is over.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Done {
    pub(super) name: &'static str,
    pub(super) outcome: Outcome,
    pub(super) seconds: f64,
}

/// 0 without a regression, 1 with one, 2 if all that went wrong is that a check could not be run.
pub(super) fn exit_code(all: &[Done]) -> u8 {
    let any = |is: fn(&Outcome) -> bool| all.iter().any(|done| is(&done.outcome));
    match (
        any(|outcome| matches!(outcome, Outcome::Failed(_))),
        any(|outcome| matches!(outcome, Outcome::Broken(_))),
    ) {
        (true, _) => 1,
        (false, true) => 2,
        (false, false) => 0,
    }
}

/// The table, and under it the evidence of each failure.
pub(super) fn table(all: &[Done]) -> String {
    let mut out = String::from("| check | result | seconds | what |\n|---|---|---|---|\n");
    for Done { name, outcome, seconds } in all {
        let said = outcome.said().lines().next().unwrap_or_default();
        let _ = writeln!(out, "| {name} | {} | {seconds:.1} | {said} |", outcome.word());
    }
    for Done { name, outcome, .. } in all {
        if outcome.said().contains('\n') {
            let _ = writeln!(out, "\n{name}: {}", outcome.said().trim_end());
        }
    }
    out
}

/// One test case a check.
pub(super) fn xml(all: &[Done]) -> String {
    let count = |word: &str| all.iter().filter(|done| done.outcome.word() == word).count();
    let seconds: f64 = all.iter().map(|done| done.seconds).sum();
    let totals = format!(
        "tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\" time=\"{seconds:.3}\"",
        all.len(),
        count("FAILED"),
        count("could not run"),
        count("skipped"),
    );
    let mut out = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites {totals}>\n<testsuite name=\"regress\" {totals}>\n"
    );
    for Done { name, outcome, seconds } in all {
        let _ = writeln!(
            out,
            "<testcase classname=\"regress\" name=\"{}\" time=\"{seconds:.3}\">",
            escaped(name)
        );
        let (message, text) =
            (outcome.said().lines().next().unwrap_or_default(), escaped(outcome.said()));
        let message = escaped(message);
        let _ = match outcome {
            Outcome::Passed(_) => writeln!(out, "<system-out>{text}</system-out>"),
            Outcome::Failed(_) => writeln!(out, "<failure message=\"{message}\">{text}</failure>"),
            Outcome::Skipped(_) => writeln!(out, "<skipped message=\"{message}\"/>"),
            Outcome::Broken(_) => writeln!(out, "<error message=\"{message}\">{text}</error>"),
        };
        out.push_str("</testcase>\n");
    }
    out + "</testsuite>\n</testsuites>\n"
}

/// A text inside XML, in elements and in attributes. What XML 1.0 cannot hold, and other control
/// characters, become U+FFFD.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(c),
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// Rows in columns of the width that they need.
pub(super) fn columns<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> String {
    let width = |i: usize| {
        rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0).max(header[i].len())
    };
    let line = |row: [&str; N]| {
        let cells: Vec<String> = (0..N).map(|i| format!("{:1$}", row[i], width(i))).collect();
        cells.join("  ").trim_end().to_string() + "\n"
    };
    let rows = rows.iter().map(|row| line(std::array::from_fn(|i| row[i].as_str())));
    std::iter::once(line(header)).chain(rows).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(name: &'static str, outcome: Outcome) -> Done {
        Done { name, outcome, seconds: 1.25 }
    }

    #[test]
    fn a_regression_outweighs_what_could_not_run() {
        let [passed, failed, skipped, broken] =
            [Outcome::Passed, Outcome::Failed, Outcome::Skipped, Outcome::Broken]
                .map(|kind| done("x", kind("".into())));
        assert_eq!(exit_code(&[passed.clone(), skipped]), 0);
        assert_eq!(exit_code(&[passed.clone(), broken.clone()]), 2);
        assert_eq!(exit_code(&[passed, broken, failed]), 1);
    }

    #[test]
    fn xml_holds_any_text() {
        let all = [
            done("golden", Outcome::Passed("50 losses".into())),
            done(
                "claims",
                Outcome::Failed("a < b & \"c\"\r\n\u{1b}[1mbold\u{0}\u{85} ]]>\t\u{ffff}é".into()),
            ),
            done("step-time", Outcome::Skipped("no 'main' <branch>".into())),
            done("report", Outcome::Broken("gone".into())),
        ];
        let expected = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
            <testsuites tests=\"4\" failures=\"1\" errors=\"1\" skipped=\"1\" time=\"5.000\">\n\
            <testsuite name=\"regress\" tests=\"4\" failures=\"1\" errors=\"1\" skipped=\"1\" time=\"5.000\">\n\
            <testcase classname=\"regress\" name=\"golden\" time=\"1.250\">\n\
            <system-out>50 losses</system-out>\n</testcase>\n\
            <testcase classname=\"regress\" name=\"claims\" time=\"1.250\">\n\
            <failure message=\"a &lt; b &amp; &quot;c&quot;\">a &lt; b &amp; &quot;c&quot;\u{fffd}\n\
            \u{fffd}[1mbold\u{fffd}\u{fffd} ]]&gt;\t\u{fffd}é</failure>\n</testcase>\n\
            <testcase classname=\"regress\" name=\"step-time\" time=\"1.250\">\n\
            <skipped message=\"no 'main' &lt;branch&gt;\"/>\n</testcase>\n\
            <testcase classname=\"regress\" name=\"report\" time=\"1.250\">\n\
            <error message=\"gone\">gone</error>\n</testcase>\n</testsuite>\n</testsuites>\n";
        assert_eq!(xml(&all), expected);
    }

    #[test]
    fn the_table_has_a_line_a_check_and_the_evidence_below() {
        let all = [
            done("a", Outcome::Passed("fine".into())),
            done("b", Outcome::Failed("two\nlines\n".into())),
        ];
        let expected = "| check | result | seconds | what |\n|---|---|---|---|\n| a | passed | 1.2 | fine |\n\
                        | b | FAILED | 1.2 | two |\n\nb: two\nlines\n";
        assert_eq!(table(&all), expected);
    }

    #[test]
    fn columns_are_as_wide_as_their_longest() {
        let rows = [["é".to_string(), "12345".to_string()], ["abc".to_string(), String::new()]];
        assert_eq!(columns(["x", "y"], &rows), "x    y\né    12345\nabc\n");
    }
}
