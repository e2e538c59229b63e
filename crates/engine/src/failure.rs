//! Panics of burn's backends, as one line that a person can read.
//!
//! burn's tensors have no errors: a driver that is missing or a memory that is full is a panic. Its
//! message can be a page of stack frames with escaped line ends (libtorch), or a sentence inside
//! two wrappers (CubeCL).

use std::{
    any::Any,
    cell::Cell,
    panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook, take_hook},
    sync::{
        Mutex, Once, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::Gpu;

thread_local! {
    /// Whether a panic of this thread will be caught and told by who asked for the work.
    static CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// Calls of [`caught`] in work.
static CALLS: AtomicUsize = AtomicUsize::new(0);

/// The first panic of one of CubeCL's threads during a call. What the caller sees is only that the
/// thread is gone.
static FIRST: Mutex<Option<String>> = Mutex::new(None);

/// Does `work`; a panic in it, or in a thread that CubeCL does its work on, is an error, in one
/// line, and is not printed. Panics elsewhere are, as before.
pub(crate) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |panic| {
            if !is_caught(panic) {
                before(panic);
            }
        }));
    });
    let outer = CAUGHT.replace(true);
    if CALLS.fetch_add(1, Ordering::SeqCst) == 0 {
        *first() = None;
    }
    // What a panic leaves half done is on the device, whose model nobody uses after an error.
    let done = catch_unwind(AssertUnwindSafe(work));
    CALLS.fetch_sub(1, Ordering::SeqCst);
    CAUGHT.set(outer);
    done.map_err(|panic| {
        let said = message(panic.as_ref());
        // That the other thread is gone: why is in what it said.
        let gone = ["RecvError", "SendError", "PoisonError", "Should have handle"]
            .iter()
            .any(|word| said.contains(word));
        reason(&first().take().filter(|_| gone).unwrap_or(said))
    })
}

/// Whether a panic is one that a call of [`caught`] tells of; remembers it if nobody else would.
fn is_caught(panic: &PanicHookInfo) -> bool {
    if CAUGHT.get() {
        return true;
    }
    // "DSD-0-0", "DSU-0-0": device service, stream.
    let cubecls = std::thread::current()
        .name()
        .is_some_and(|name| name.starts_with("DSD-") || name.starts_with("DSU-"));
    if !cubecls || CALLS.load(Ordering::SeqCst) == 0 {
        return false;
    }
    first().get_or_insert_with(|| message(panic.payload()));
    true
}

fn first() -> std::sync::MutexGuard<'static, Option<String>> {
    FIRST.lock().unwrap_or_else(PoisonError::into_inner)
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("it stopped and gave no reason")
        .to_string()
}

/// The sentence in a panic's message that says what went wrong.
fn reason(message: &str) -> String {
    // In a message inside a message line ends are written as two characters.
    let lines = message.replace("\\n", "\n").replace("\\\"", "\"");
    // CubeCL puts the cause last, and the frames after it.
    let lines = lines.split("Backtrace:").next().unwrap_or_default();
    let lines = lines.rsplit("Caused by:").next().unwrap_or_default();
    let mut line = lines.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    if let Some((_, inner)) = line.split_once("` on an `Err` value: ") {
        line = inner;
    }
    // Names of error types around a text: `Torch("...")`, `Generic { reason: "..." }`.
    if let Some((wrapper, inner)) = line.split_once('"')
        && wrapper.contains(['(', '{'])
        && wrapper.chars().all(|c| c.is_alphanumeric() || " {}():_,".contains(c))
    {
        let closes = |at: usize| {
            let after = &inner[at + 1..];
            after.is_empty() || after.starts_with([')', ',']) || after.starts_with(" }")
        };
        let end = inner.match_indices('"').map(|(at, _)| at).find(|&at| closes(at));
        line = &inner[..end.unwrap_or(inner.len())];
    }
    // libtorch's frames may follow in the same line.
    let line = line.split("Exception raised from ").next().unwrap_or_default();
    // cudarc lists thirty names that the driver's library might have.
    let line = line.split(" - searched for library names").next().unwrap_or_default();
    let line = line.trim().trim_end_matches('.');
    match line.char_indices().nth(400) {
        Some((end, _)) => format!("{} ...", &line[..end]),
        None => line.to_string(),
    }
}

/// A reason, and what helps where that is known.
pub(crate) fn explained(reason: &str, gpu: Option<&Gpu>) -> String {
    let lower = reason.to_lowercase();
    let advice = if lower.contains("libdevice") {
        // CubeCL's own sentence begins with the kernel that it happened to compile.
        return "CUDA's libdevice.10.bc, where exponentials come from, was not found: install the CUDA toolkit, or PyPI's \
                nvidia-nvvm, and set CUDA_PATH to the folder that holds nvvm/libdevice"
            .to_string();
    } else if lower.contains("dynamically load") {
        "install NVIDIA's driver, or put the folder of its libcuda.so.1 on LD_LIBRARY_PATH"
            .to_string()
    } else if lower.contains("out of memory") {
        let free = gpu.map_or_else(String::new, |gpu| format!(" ({gpu})"));
        format!("fewer --jobs, a smaller batch or a GPU with more free memory{free}")
    } else if lower.contains("driver")
        && (lower.contains("too old") || lower.contains("insufficient"))
    {
        let found = gpu.map_or_else(String::new, |gpu| format!(" (found {})", gpu.driver));
        format!("update the NVIDIA driver{found}")
    } else {
        return reason.to_string();
    };
    format!("{reason}; {advice}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_libtorchs_becomes_its_first_sentence() {
        let page = "called `Result::unwrap()` on an `Err` value: Torch(\"The NVIDIA driver on your system is too old (found \
                    version 12020). Please update your GPU driver.\\nException raised from device_count_impl at \
                    ../c10/cuda/CUDAFunctions.cpp:108 (most recent call first):\\nframe #0: c10::Error::Error(...)\")";
        let line = reason(page);
        assert_eq!(
            line,
            "The NVIDIA driver on your system is too old (found version 12020). Please update your GPU driver"
        );
        assert!(explained(&line, None).ends_with("; update the NVIDIA driver"));
    }

    #[test]
    fn one_sentence_of_each() {
        for (message, expected) in [
            ("plain", "plain"),
            ("", ""),
            ("\n\n  indented.\nmore", "indented"),
            (
                "called `Result::unwrap()` on an `Err` value: Generic { reason: \"no such thing\", backtrace: ... }",
                "no such thing",
            ),
            (
                "called `Result::unwrap()` on an `Err` value: DriverError(CUDA_ERROR_NO_DEVICE, \"no device\")",
                "no device",
            ),
            (
                "Error while reading data: use `try_into_scalar` instead to catch the error at runtime: Execution(An error \
                 happened during execution\nCaused by:\n  libdevice.10.bc was not found: the kernel calls it\nBacktrace:\n 0: a",
                "libdevice.10.bc was not found: the kernel calls it",
            ),
            (
                "Unable to dynamically load the \"cuda\" shared library - searched for library names: [\"libcuda.so\"]. Ensure",
                "Unable to dynamically load the \"cuda\" shared library",
            ),
            ("he said \"no\" twice: \"no\"", "he said \"no\" twice: \"no\""),
        ] {
            assert_eq!(reason(message), expected, "{message}");
        }
        assert!(reason(&"x".repeat(10_000)).len() < 410);
    }

    #[test]
    fn what_is_caught_is_not_printed_and_the_rest_is() {
        static HEARD: AtomicUsize = AtomicUsize::new(0);
        // The hook of this module goes on top of this one, or is there already and is taken away
        // with it.
        let before = take_hook();
        set_hook(Box::new(|panic| {
            if !is_caught(panic) {
                HEARD.fetch_add(1, Ordering::SeqCst);
            }
        }));
        std::thread::scope(|scope| {
            (0..4).for_each(|_| {
                scope.spawn(|| {
                    (0..50).for_each(|i| {
                        assert_eq!(caught(|| panic!("{i}")), Err::<(), _>(i.to_string()));
                    });
                });
            });
        });
        assert_eq!(caught(|| caught(|| panic!("inner"))), Ok(Err::<(), _>("inner".to_string())));
        // A thread of CubeCL's stops first, and its caller for want of an answer.
        let gone = caught(|| {
            let device = std::thread::Builder::new().name("DSD-0-0".to_string());
            device.spawn(|| panic!("no driver")).unwrap().join().expect("RecvError");
        });
        assert_eq!(gone, Err("no driver".to_string()));
        assert_eq!(HEARD.load(Ordering::SeqCst), 0);
        let _ = catch_unwind(|| panic!("heard"));
        set_hook(before);
        assert_eq!(HEARD.load(Ordering::SeqCst), 1);
    }
}
