//! Where things lie in a run's folder.

/// The spec of a run, in its folder.
pub const SPEC: &str = "spec.toml";

/// The folder of a run's tables, in its folder.
pub const MEASUREMENTS: &str = "measurements";

/// The file of a snapshot in a folder that has one for each.
pub fn step_file(step: u64) -> String {
    format!("step-{step:08}.safetensors")
}
