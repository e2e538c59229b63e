//! Not a check: makes the folder named by INDUCTION_REPORT_DEMO, for looking at the page.

mod common;

#[test]
#[ignore = "writes where the environment says"]
fn demo() {
    let dir = std::path::PathBuf::from(std::env::var_os("INDUCTION_REPORT_DEMO").expect("a folder"));
    common::write_all(&dir, &common::all());
    for seed in 1..3 {
        let runs = [common::one(), common::two()].map(|run| common::Fabricated {
            folder: format!("{}-seed{seed}", run.folder),
            seed,
            middle: 3e6 + 3e5 * seed as f64,
            ..run
        });
        common::write_all(&dir, &runs);
    }
    induction_report::build(&dir).expect("sound runs");
}
