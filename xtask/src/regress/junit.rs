//! What came of the checks: a table to read, and JUnit's XML for machines.

use std::{fmt::Write as _, time::Duration};

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

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

/// One test case a check. What XML cannot hold is left out.
pub(super) fn xml(all: &[Done]) -> Result<String, quick_junit::SerializeError> {
    let seconds = Duration::from_secs_f64;
    let mut suite = TestSuite::new("regress");
    for Done { name, outcome, seconds: took } in all {
        // Which the library lets through.
        let said = outcome.said().replace(['\u{fffe}', '\u{ffff}'], "\u{fffd}");
        let mut status = match outcome {
            Outcome::Passed(_) => TestCaseStatus::success(),
            Outcome::Failed(_) => TestCaseStatus::non_success(NonSuccessKind::Failure),
            Outcome::Skipped(_) => TestCaseStatus::skipped(),
            Outcome::Broken(_) => TestCaseStatus::non_success(NonSuccessKind::Error),
        };
        status.set_message(said.lines().next().unwrap_or_default());
        if said.contains('\n') {
            status.set_description(said.as_str());
        }
        let mut case = TestCase::new(*name, status);
        case.set_classname("regress").set_time(seconds(*took));
        if let Outcome::Passed(_) = outcome {
            case.set_system_out(said);
        }
        suite.add_test_case(case);
    }
    let total = seconds(all.iter().map(|done| done.seconds).sum());
    suite.set_time(total);
    Report::new("regress").set_time(total).add_test_suite(suite).to_string()
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
        let expected = r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="regress" tests="4" skipped="1" failures="1" errors="1" time="5.000">
    <testsuite name="regress" tests="4" skipped="1" errors="1" failures="1" time="5.000">
        <testcase name="golden" classname="regress" time="1.250">
            <system-out>50 losses</system-out>
        </testcase>
        <testcase name="claims" classname="regress" time="1.250">
            <failure message="a &lt; b &amp; &quot;c&quot;">a &lt; b &amp; &quot;c&quot;
bold ]]&gt;�é</failure>
        </testcase>
        <testcase name="step-time" classname="regress" time="1.250">
            <skipped message="no &apos;main&apos; &lt;branch&gt;"/>
        </testcase>
        <testcase name="report" classname="regress" time="1.250">
            <error message="gone"/>
        </testcase>
    </testsuite>
</testsuites>
"#;
        assert_eq!(xml(&all).unwrap(), expected);
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
