//! `cargo run -p induction-report --example report -- DIR`: builds DIR's report and prints its claims.

use std::io::Write;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::args_os().nth(1).ok_or("usage: report DIR")?;
    let report = induction_report::build(dir.as_ref())?;
    writeln!(std::io::stdout(), "{}", induction_report::table(&report.claims, 100, false))?;
    Ok(())
}
