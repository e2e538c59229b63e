//! What a command prints: for a reader or, with `--json`, for a program.

use std::{
    io::{IsTerminal, Write},
    path::Path,
};

use induction::{
    Error,
    report::{Report, table},
    reproduce::Forecast,
    terminal::{inert, inert_json},
};

/// A result, for a program or a reader.
pub(crate) fn tell(json: bool, value: &serde_json::Value, said: &str) -> Result<(), Error> {
    if json { show(value) } else { print_line(said) }
}

pub(crate) fn tell_path(json: bool, name: &str, path: &Path) -> Result<(), Error> {
    tell(json, &serde_json::json!({name: path}), &path.display().to_string())
}

/// Whether standard output is a terminal that wants colours (https://no-color.org).
pub(crate) fn colours() -> bool {
    let unset = |name| std::env::var_os(name).is_none_or(|value| value.is_empty());
    std::io::stdout().is_terminal()
        && unset("NO_COLOR")
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

pub(crate) fn json_line(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("results serialize")
}

pub(crate) fn show(value: &impl serde::Serialize) -> Result<(), Error> {
    print_json(&serde_json::to_string_pretty(value).expect("results serialize"))
}

pub(crate) fn print_json(json: &str) -> Result<(), Error> {
    print(&inert_json(json))
}

pub(crate) fn print_line(text: &str) -> Result<(), Error> {
    print(&inert(text))
}

/// `println!` without its panic when the reader of a pipe has gone.
pub(crate) fn print(text: &str) -> Result<(), Error> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::io("standard output")(e))
        }
        _ => Ok(()),
    }
}

pub(crate) fn show_forecast(forecast: &Forecast, json: bool) -> Result<(), Error> {
    if json { show(forecast) } else { print_line(&forecast.to_string()) }
}

pub(crate) fn show_report(report: &Report, json: bool) -> Result<(), Error> {
    if json {
        return show(&serde_json::json!({"report": report.page, "claims": report.claims}));
    }
    // What the claims quote from files holds no escape codes; the table's own are wanted.
    print(&table(&report.claims, 100, colours()))?;
    print_line(&format!("\nreport: {}", report.page.display()))
}
