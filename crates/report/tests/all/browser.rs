//! The page in a real browser: Chromium without a window, driven over its DevTools protocol.
//!
//! Without Chromium there is nothing to test and the test says so, unless
//! `INDUCTION_BROWSER=required`. `INDUCTION_REPORT=report.html` tests that page instead of one made
//! here, `INDUCTION_SCAN=dir` a page of the scan in dir; `INDUCTION_SHOTS=dir` keeps screenshots.

use std::collections::VecDeque;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tungstenite::stream::MaybeTlsStream;
use tungstenite::{Message, WebSocket, connect};

const WAIT: Duration = Duration::from_secs(30);

/// A page in a browser of its own.
struct Browser {
    process: Child,
    socket: WebSocket<MaybeTlsStream<TcpStream>>,
    session: String,
    next: u64,
    /// Errors on the console, exceptions, and requests that would leave the page.
    complaints: Vec<String>,
    _profile: tempfile::TempDir,
}

fn chromium() -> Option<PathBuf> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let path = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&path)
        .flat_map(|dir| names.map(|name| dir.join(name)))
        .find(|file| file.is_file());
    if found.is_none() {
        assert!(
            std::env::var("INDUCTION_BROWSER").as_deref() != Ok("required"),
            "Chromium is not installed"
        );
        eprintln!("Chromium is not installed: the page is not tested in a browser");
    }
    found
}

impl Browser {
    fn open(program: &Path, page: &Path, width: u32, height: u32) -> Self {
        let profile = tempfile::tempdir().expect("a temporary folder");
        let process = Command::new(program)
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
                "--hide-scrollbars",
            ])
            .args([
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--disable-quic",
            ])
            .args(["--remote-debugging-port=0", "--allow-file-access-from-files"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("Chromium starts");
        let port_file = profile.path().join("DevToolsActivePort");
        let begun = Instant::now();
        let address = loop {
            let text = std::fs::read_to_string(&port_file).unwrap_or_default();
            if let Some((port, path)) =
                text.split_once('\n').filter(|(_, path)| !path.trim().is_empty())
            {
                break format!("ws://127.0.0.1:{port}{}", path.trim());
            }
            assert!(begun.elapsed() < WAIT, "Chromium does not listen");
            std::thread::sleep(Duration::from_millis(20));
        };
        let (socket, _) = connect(address).expect("Chromium listens");
        if let MaybeTlsStream::Plain(stream) = socket.get_ref() {
            stream.set_read_timeout(Some(WAIT)).expect("a timeout that is not zero");
        }
        let mut browser = Self {
            process,
            socket,
            session: String::new(),
            next: 0,
            complaints: Vec::new(),
            _profile: profile,
        };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}));
        let attached = browser.call(
            "Target.attachToTarget",
            json!({"targetId": target["targetId"], "flatten": true}),
        );
        browser.session = attached["sessionId"].as_str().expect("a session").to_string();
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser.size(width, height);
        let url = format!("file://{}", page.canonicalize().expect("the page is there").display());
        browser.call("Page.navigate", json!({"url": url}));
        browser.until("document.readyState === 'complete' && typeof Plotly === 'object'");
        browser
    }

    fn size(&mut self, width: u32, height: u32) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500});
        self.call("Emulation.setDeviceMetricsOverride", size);
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        self.next += 1;
        let id = self.next;
        let mut message = json!({"id": id, "method": method, "params": params});
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        self.socket.send(Message::text(message.to_string())).expect("Chromium listens");
        loop {
            let message = self.socket.read().unwrap_or_else(|error| panic!("{method}: {error}"));
            let Ok(text) = message.to_text() else { continue };
            let Ok(value) = serde_json::from_str::<Value>(text) else { continue };
            if value["id"] == json!(id) {
                assert!(value["error"].is_null(), "{method}: {}", value["error"]);
                return value["result"].clone();
            }
            self.event(&value);
        }
    }

    fn event(&mut self, event: &Value) {
        let params = &event["params"];
        match event["method"].as_str().unwrap_or_default() {
            "Runtime.exceptionThrown" => {
                self.complaints.push(params["exceptionDetails"].to_string());
            }
            "Runtime.consoleAPICalled"
                if params["type"] == "error" || params["type"] == "warning" =>
            {
                self.complaints.push(params["args"].to_string());
            }
            "Log.entryAdded" if params["entry"]["level"] == "error" => {
                self.complaints.push(params["entry"].to_string());
            }
            "Network.requestWillBeSent" => {
                let url = params["request"]["url"].as_str().unwrap_or_default();
                let inside = url.ends_with("report.html")
                    || url.starts_with("data:")
                    || url.starts_with("blob:");
                if !inside && !url.starts_with("about:") {
                    self.complaints.push(format!("request: {url}"));
                }
            }
            _ => {}
        }
    }

    /// The value of an expression, awaited if it is a promise.
    fn eval(&mut self, expression: &str) -> Value {
        let params = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let result = self.call("Runtime.evaluate", params);
        assert!(
            result["exceptionDetails"].is_null(),
            "{expression}: {}",
            result["exceptionDetails"]
        );
        result["result"]["value"].clone()
    }

    fn until(&mut self, condition: &str) {
        let begun = Instant::now();
        while self.eval(condition) != json!(true) {
            assert!(begun.elapsed() < WAIT, "never: {condition}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn key(&mut self, key: &str) {
        let code = match key {
            "ArrowLeft" => 37,
            "ArrowRight" => 39,
            "ArrowDown" => 40,
            "Enter" => 13,
            "Escape" => 27,
            "Tab" => 9,
            _ => 0,
        };
        for kind in ["rawKeyDown", "keyUp"] {
            let params =
                json!({"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code});
            self.call("Input.dispatchKeyEvent", params);
        }
    }

    /// Scrolls an element into view and returns the middle of it, or of its first line.
    fn place(&mut self, selector: &str) -> (f64, f64) {
        let at = self.eval(&format!(
            "(async () => {{ const e = document.querySelector({selector:?}); e.scrollIntoView({{ block: 'center', behavior: 'instant' }}); await new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(r))); const b = e.getClientRects()[0]; return [b.left + b.width / 2, b.top + b.height / 2]; }})()"
        ));
        (at[0].as_f64().expect("a place"), at[1].as_f64().expect("a place"))
    }

    fn click(&mut self, selector: &str) {
        let (x, y) = self.place(selector);
        for kind in ["mousePressed", "mouseReleased"] {
            let params = json!({"type": kind, "x": x, "y": y, "button": "left", "clickCount": 1});
            self.call("Input.dispatchMouseEvent", params);
        }
    }

    fn hover(&mut self, selector: &str) {
        let (x, y) = self.place(selector);
        self.call("Input.dispatchMouseEvent", json!({"type": "mouseMoved", "x": x, "y": y}));
    }

    /// Milliseconds from an action to the frame after it.
    fn time(&mut self, action: &str) -> f64 {
        let took = self.eval(&format!(
            "(async () => {{ const begun = performance.now(); {action}; await new Promise((r) => requestAnimationFrame(() => setTimeout(r, 0))); return performance.now() - begun; }})()"
        ));
        took.as_f64().expect("a time")
    }

    /// A picture of an element, or of the window, if pictures are wanted.
    fn shot(&mut self, name: &str, selector: Option<&str>) {
        let Some(dir) = std::env::var_os("INDUCTION_SHOTS").map(PathBuf::from) else { return };
        let mut params = json!({"format": "png"});
        if let Some(selector) = selector {
            self.place(selector);
            let clip = self.eval(&format!(
                "(() => {{ const b = document.querySelector({selector:?}).getBoundingClientRect(); return {{ x: Math.max(0, b.left + scrollX - 8), y: b.top + scrollY - 8, width: b.width + 16, height: Math.min(b.height + 16, 3000), scale: 1 }}; }})()"
            ));
            params["clip"] = clip;
            params["captureBeyondViewport"] = json!(true);
        }
        std::thread::sleep(Duration::from_millis(400));
        let picture = self.call("Page.captureScreenshot", params);
        let bytes = STANDARD.decode(picture["data"].as_str().expect("a picture")).expect("base64");
        std::fs::create_dir_all(&dir).expect("a folder for pictures");
        std::fs::write(dir.join(format!("{name}.png")), bytes).expect("a picture");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The page under test, and the folder that keeps it.
fn page() -> (PathBuf, Option<tempfile::TempDir>) {
    if let Some(page) = std::env::var_os("INDUCTION_REPORT") {
        return (PathBuf::from(page), None);
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut runs = crate::common::all();
    runs.extend(crate::common::families());
    crate::common::write_all(dir.path(), &runs);
    crate::common::write_scan(dir.path(), "tiny", &crate::common::scan());
    crate::common::write_scan(dir.path(), "series/000", &crate::common::scan());
    crate::common::write_scan(dir.path(), "series/001", &crate::common::scan());
    let report = induction_report::build(dir.path()).expect("sound runs");
    (report.page, Some(dir))
}

#[test]
fn the_page_works_in_a_browser() {
    let Some(program) = chromium() else { return };
    let (page, _dir) = page();
    let folder = page.parent().expect("a page lies in a folder").to_path_buf();
    let size = std::fs::metadata(&page).expect("it was written").len();
    assert!(size < 12_000_000, "the page has {size} bytes");
    let mut browser = Browser::open(&program, &page, 1280, 900);
    let paint = browser
        .eval("performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0")
        .as_f64()
        .expect("a time");
    assert!(paint < 2000.0, "first paint after {paint} ms");
    browser.until("document.querySelector('#brief-0 .main-svg') !== null");
    browser.shot("top", None);

    figures_hold_their_files(&mut browser, &folder);
    models(&mut browser);
    let mut times = vec![("first paint", paint)];
    times.extend(analysis(&mut browser));
    times.extend(explorer(&mut browser));
    times.extend(scanned(&mut browser));
    eprintln!("{size} bytes; milliseconds: {times:?}");
    // Twice the bar: other tests share the cores. The bar itself is checked alone
    // (docs/BENCHMARKS.md).
    assert!(times[1..].iter().all(|(_, time)| *time < 400.0), "{times:?}");

    for (width, height) in [(1280, 900), (390, 844)] {
        browser.size(width, height);
        browser.until("document.documentElement.clientWidth <= window.innerWidth");
        let wide = browser.eval(OVERFLOW);
        assert_eq!(wide, json!([]), "wider than the page at {width} pixels");
        let over = browser.eval(OVERLAP);
        assert_eq!(over, json!([]), "overlap at {width} pixels");
        let places = [
            "claims",
            "argument-1",
            "F4",
            "F8",
            "argument-4",
            "F12",
            "C1",
            "real-models",
            "R-A1",
            "R-removed",
            "R-F12",
            "scanned",
            "explorer",
            "text-over-training",
            "repeat",
        ];
        for id in places {
            let there = browser.eval(&format!("document.getElementById('{id}') !== null"));
            if there == json!(true) {
                browser.eval(&format!(
                    "document.getElementById('{id}').scrollIntoView({{ behavior: 'instant' }})"
                ));
                browser.shot(&format!("{id}-{width}"), None);
            }
        }
    }
    // The dark page is drawn anew in its own colours.
    browser.size(1280, 900);
    let paper = "getComputedStyle(document.body).backgroundColor";
    let ink = "document.getElementById('brief-0').layout.font.color";
    let light = [browser.eval(paper), browser.eval(ink)];
    let dark = json!({"features": [{"name": "prefers-color-scheme", "value": "dark"}]});
    browser.call("Emulation.setEmulatedMedia", dark);
    browser.until(&format!("{ink} !== {}", light[1]));
    assert_ne!(browser.eval(paper), light[0]);
    for id in ["brief-0", "F4", "analysis-title", "explorer"] {
        browser.place(&format!("#{id}"));
        browser.shot(&format!("dark-{id}"), None);
    }
    assert!(browser.complaints.is_empty(), "{:#?}", browser.complaints);
}

/// Elements that stick out of the page sideways, other than inside what scrolls.
const OVERFLOW: &str = "[...document.querySelectorAll('main *, header *, footer *')].filter((e) => { const b = e.getBoundingClientRect(); return b.width > 0 && b.right > document.documentElement.clientWidth + 1 && !e.closest('.wide, pre, .tokens, .plot, svg, dialog, .skip'); }).slice(0, 5).map((e) => e.outerHTML.slice(0, 120))";

/// Neighbours in the flow of a section whose boxes lie over each other.
const OVERLAP: &str = "(() => { const bad = []; for (const parent of document.querySelectorAll('main, section, figure, .panels, .sides, .controls, .sides > div')) { const boxes = [...parent.children].map((e) => [e, e.getBoundingClientRect()]).filter(([e, b]) => b.width > 1 && b.height > 1 && getComputedStyle(e).position === 'static'); for (let i = 1; i < boxes.length; i++) { const [a, b] = [boxes[i - 1][1], boxes[i][1]]; if (Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1) bad.push(boxes[i][0].outerHTML.slice(0, 120)); } } return bad.slice(0, 5); })()";

/// What is drawn is what the files say.
fn figures_hold_their_files(browser: &mut Browser, folder: &Path) {
    for id in ["F3", "F5", "F6"] {
        let csv = std::fs::read_to_string(folder.join(format!("figures/{id}.csv")))
            .expect("a figure has a file");
        let points: Vec<Vec<&str>> =
            csv.lines().skip(1).map(|line| line.split(',').collect()).collect();
        let first = points[0][0];
        browser.place(&format!("#{id}-0"));
        browser.until(&format!("document.querySelector('#{id}-0 .main-svg') !== null"));
        let drawn = browser.eval(&format!(
            "document.getElementById('{id}-0').data.filter((t) => t.hoverinfo !== 'skip').flatMap((t) => [...t.y])"
        ));
        let drawn: Vec<f64> =
            drawn.as_array().expect("a list").iter().filter_map(Value::as_f64).collect();
        // A title with a comma is cut at it, and begins with a quote.
        let of_first: Vec<f64> = points
            .iter()
            .filter(|point| point[0] == first && point.len() >= 4)
            .filter_map(|point| point[point.len() - 4].parse().ok())
            .collect();
        assert!(
            !drawn.is_empty() && drawn == of_first,
            "{id}: {} drawn, {} in the file",
            drawn.len(),
            of_first.len()
        );
    }
}

/// Every panel of the section on real models draws.
fn models(browser: &mut Browser) {
    let panels = browser.eval(
        "[...document.querySelectorAll('[aria-labelledby=real-models] .plot')].map((e) => e.id)",
    );
    for id in panels.as_array().expect("a list").iter().filter_map(Value::as_str) {
        browser.place(&format!("#{id}"));
        browser.until(&format!("document.querySelector('#{id} .main-svg') !== null"));
    }
}

#[test]
fn a_page_of_scans_works_in_a_browser() {
    let Some(program) = chromium() else { return };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let fabricated = || {
        ["000", "001"]
            .map(|name| crate::common::write_scan(dir.path(), name, &crate::common::scan()))
            .to_vec()
    };
    let scans = std::env::var_os("INDUCTION_SCAN")
        .map_or_else(fabricated, |scan| vec![PathBuf::from(scan)]);
    let page = dir.path().join("report.html");
    induction_report::build_scan(&scans, &page).expect("sound scans");
    let mut browser = Browser::open(&program, &page, 1280, 900);
    let drawn =
        browser.eval("document.querySelectorAll('[aria-labelledby=real-models] .plot').length");
    assert!(drawn.as_u64() > Some(7), "{drawn}");
    models(&mut browser);
    scanned(&mut browser);
    for (width, height) in [(1280, 900), (390, 844)] {
        browser.size(width, height);
        browser.until("document.documentElement.clientWidth <= window.innerWidth");
        assert_eq!(browser.eval(OVERFLOW), json!([]), "wider than the page at {width} pixels");
        assert_eq!(browser.eval(OVERLAP), json!([]), "overlap at {width} pixels");
        for id in ["claims", "R-A1", "R-A2", "R-repeats", "R-removed", "R-F12", "R-F13"] {
            browser.eval(&format!(
                "document.getElementById('{id}')?.scrollIntoView({{ behavior: 'instant' }})"
            ));
            browser.shot(&format!("scan-{id}-{width}"), None);
        }
    }
    assert!(browser.complaints.is_empty(), "{:#?}", browser.complaints);
}

/// The table of all models: columns, stamps, a panel enlarged by mouse and moved by keys.
fn analysis(browser: &mut Browser) -> VecDeque<(&'static str, f64)> {
    let mut times = VecDeque::new();
    let columns = "document.querySelectorAll('#analysis-table thead th').length";
    let (all, picked) = (
        browser.eval("document.querySelectorAll('#analysis-picks label:not(.whole) input').length"),
        browser.eval(columns),
    );
    assert!(picked.as_u64() > Some(0) && picked.as_u64() <= all.as_u64());
    let took = browser.time("document.querySelectorAll('#analysis-picks .whole input').forEach((box) => { if (!box.checked) box.click(); })");
    times.push_back(("every column shown", took));
    assert_eq!(browser.eval(columns), all);
    assert_eq!(
        browser.eval("document.querySelectorAll('#analysis-table tbody tr').length"),
        json!(9)
    );
    // Seen stamps hold a drawing, unseen ones do not.
    let painted = "[...document.querySelectorAll('#analysis-table canvas')].filter((c) => c.width !== 300 && c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some((x) => x)).length";
    browser.place("#analysis-table tbody tr:nth-child(5) .stamp");
    browser.until(&format!("{painted} > 8"));
    browser.shot("analysis", Some("#analysis-table"));
    browser.click("#analysis-table tbody tr:nth-child(5) .stamp");
    browser.until(
        "document.getElementById('enlarged').open && document.querySelector('#enlarged-plot .main-svg') !== null",
    );
    browser.shot("enlarged", None);
    let title = browser.eval("document.getElementById('enlarged-title').textContent");
    assert!(title.as_str().is_some_and(|title| title.starts_with("ICL score")), "{title}");
    // The same numbers as in the figure, which are those of its file.
    let lines = |id: &str| {
        format!(
            "JSON.stringify([...document.getElementById('{id}').data.find((t) => t.hoverinfo !== 'skip').y])"
        )
    };
    let enlarged = browser.eval(&lines("enlarged-plot"));
    assert_eq!(enlarged, browser.eval(&lines("F3-0")));
    browser.key("ArrowDown");
    let title = browser.eval("document.getElementById('enlarged-title').textContent");
    assert!(title.as_str().is_some_and(|title| title.starts_with("Prefix matching")), "{title}");
    let took = browser.time(
        "document.getElementById('enlarged').dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowRight', bubbles: true }))",
    );
    times.push_back(("next panel", took));
    browser.key("Escape");
    browser.until("!document.getElementById('enlarged').open");
    times
}

/// Holds the token with the largest attention to a place that is neither the start nor near.
const STRIKING: &str = "(() => { const list = document.getElementById('x-tokens'); list.dispatchEvent(new KeyboardEvent('keydown', { key: 'Escape' })); let best = [0, null]; for (const token of list.querySelectorAll('.token')) { token.dispatchEvent(new PointerEvent('pointerover', { bubbles: true })); for (const li of document.querySelectorAll('#x-top li')) { const [, place, share] = li.textContent.match(/ [(]([0-9]+)[)]: attention ([0-9.]+)/); if (+place > 0 && +token.dataset.k - place > 4 && +share > best[0]) best = [+share, token]; } } best[1]?.click(); document.getElementById('x-tokens').blur(); })()";

/// The grid of a scanned model's heads, by mouse and by keys.
fn scanned(browser: &mut Browser) -> Vec<(&'static str, f64)> {
    if browser.eval("document.getElementById('scanned') === null") == json!(true) {
        return Vec::new();
    }
    browser.place("#scanned-title");
    browser.until("document.querySelectorAll('#m-tokens .token').length > 0");
    let chosen = "document.querySelectorAll('#m-heads [aria-pressed=\"true\"]')";
    assert_eq!(browser.eval(&format!("{chosen}.length")), json!(1));
    // The head that matches prefixes best comes first, and the table says the same of it.
    let best = browser.eval(
        "(() => { const m = JSON.parse(document.getElementById('scanned-data').textContent)[0]; \
        const [name, of] = m.measures[0]; const h = of.indexOf(Math.max(...of)); \
        return `Head ${Math.floor(h / m.heads)}.${h % m.heads} of ${m.label}: ${name.replaceAll('_', ' ')} ${of[h].toFixed(3)}.`; })()",
    );
    assert_eq!(browser.eval("document.getElementById('m-head').textContent"), best);
    browser.hover("#m-tokens .token[data-k='3']");
    browser.until("document.getElementById('m-said').textContent.includes('position 3')");
    let sum = browser.eval("[...document.querySelectorAll('#m-top li')].map((li) => +li.textContent.match(/: ([\\d.]+)$/)[1]).reduce((a, b) => a + b, 0)");
    assert!((sum.as_f64().expect("a sum") - 1.0).abs() < 0.03, "{sum}");
    // Arrows go from head to head, and there is one stop for the tabulator.
    let head = format!("+{chosen}[0].dataset.head");
    let before = browser.eval(&head).as_f64().expect("a head");
    browser.eval(&format!("{chosen}[0].focus()"));
    browser.key("ArrowLeft");
    browser.until(&format!("{head} === {}", before - 1.0));
    assert_eq!(
        browser.eval("document.querySelectorAll('#m-heads [tabindex=\"0\"]').length"),
        json!(1)
    );
    let text = browser.time("(() => { const s = document.getElementById('m-text'); s.selectedIndex = s.options.length - 1; s.dispatchEvent(new Event('change')); })()");
    let shade = browser.time("(() => { const s = document.getElementById('m-measure'); s.selectedIndex = s.options.length - 1; s.dispatchEvent(new Event('change')); })()");
    browser.shot("scanned", Some("#scanned"));
    vec![("another text of a scan", text), ("another shade", shade)]
}

/// The explorer by mouse and by keys.
fn explorer(browser: &mut Browser) -> VecDeque<(&'static str, f64)> {
    let mut times = VecDeque::new();
    browser.place("#explorer-title");
    browser.until("document.querySelectorAll('#x-tokens .token').length > 0 && document.querySelector('#x-scores .main-svg') !== null");
    // The model with the most heads is the slowest.
    let largest = browser.eval("(() => { const models = JSON.parse(document.getElementById('explorer-data').textContent); let best = 0; models.forEach((m, k) => { if (m.layers > models[best].layers) best = k; }); return best; })()");
    let took = browser.eval(&format!(
        "(async () => {{ const s = document.getElementById('x-model'), h = document.getElementById('x-heads'); await new Promise((r) => setTimeout(r, 300)); const begun = performance.now(); const filled = new Promise((r) => new MutationObserver(r).observe(h, {{ childList: true }})); s.value = {largest}; s.dispatchEvent(new Event('change')); await filled; await new Promise((r) => requestAnimationFrame(() => setTimeout(r, 0))); return performance.now() - begun; }})()"
    ));
    times.push_back(("another model", took.as_f64().expect("a time")));
    let took = browser.time("(() => { const s = document.getElementById('x-snapshot'); s.value = Math.floor(+s.max / 2); s.dispatchEvent(new Event('input')); })()");
    times.push_back(("another snapshot", took));
    let took = browser.time("document.querySelector('#x-heads button').click()");
    times.push_back(("another head", took));
    assert_eq!(
        browser.eval("document.querySelector('#x-heads button').getAttribute('aria-pressed')"),
        json!("true")
    );
    // Whatever measures the table has are there, and belong to the head: its button says one of
    // them, too.
    let said = browser.eval(
        "[...document.querySelectorAll('#x-measures div')].map((one) => one.innerText.replace(/\\s+/g, ' ').trim())",
    );
    let said: Vec<&str> =
        said.as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    let title = browser.eval("document.querySelector('#x-heads button').title");
    let last = |text: &str| text.rsplit(' ').next().and_then(|number| number.parse::<f64>().ok());
    let score = title.as_str().and_then(last).expect("prefix matching 0.12");
    assert!(
        said.len() >= 5 && said.iter().any(|one| one.starts_with("previous token ")),
        "{said:?}"
    );
    let listed = said.iter().find(|one| {
        one.strip_prefix("prefix matching ").is_some_and(|rest| !rest.starts_with('l'))
    });
    assert!(
        listed.and_then(|one| last(one)).is_some_and(|value| (value - score).abs() < 0.0051),
        "{title}: {said:?}"
    );
    browser.eval("(() => { const s = document.getElementById('x-model'); s.value = [...s.options].findIndex((o) => o.textContent === '2 layers'); s.dispatchEvent(new Event('change')); })()");
    browser.until("document.getElementById('x-said').textContent.includes('of 2 layers.')");

    // Attention from a position sums to one, up to what 255ths can say.
    browser.hover("#x-tokens .token[data-k='3']");
    browser.until("document.getElementById('x-said').textContent.includes('position 3')");
    let sum = browser.eval("[...document.querySelectorAll('#x-top li')].map((li) => +li.textContent.match(/attention ([\\d.]+)/)[1]).reduce((a, b) => a + b, 0)");
    assert!((sum.as_f64().expect("a sum") - 1.0).abs() < 0.02, "{sum}");
    // Held by a click, a token stays when the pointer goes elsewhere.
    browser.click("#x-tokens .token[data-k='3']");
    browser.hover("#x-tokens .token[data-k='1']");
    assert_eq!(
        browser.eval("document.querySelector('#x-tokens .locked')?.dataset.k ?? null"),
        json!("3")
    );
    browser.key("Escape");
    browser.eval("document.getElementById('x-tokens').focus()");
    browser.key("Escape");
    assert_eq!(browser.eval("document.querySelector('#x-tokens .locked')"), Value::Null);
    for _ in 0..3 {
        browser.key("ArrowRight");
    }
    browser.key("Enter");
    assert_eq!(
        browser.eval("document.querySelector('#x-tokens .locked')?.dataset.k ?? null"),
        json!("2")
    );
    let took = browser.time("document.getElementsByName('x-kind')[1].click()");
    times.push_back(("the other map", took));
    browser.eval("document.getElementsByName('x-kind')[0].click()");
    if std::env::var_os("INDUCTION_SHOTS").is_some() {
        // For the picture, a token that attends to one earlier place as much as any does.
        browser.eval(STRIKING);
    }
    browser.shot("explorer", Some("#explorer"));
    // A prompt instead of the text.
    let prompts = browser.eval("document.getElementById('x-text').options.length");
    if prompts.as_u64() > Some(1) {
        let took = browser.time("(() => { const s = document.getElementById('x-text'); s.selectedIndex = s.options.length - 1; s.dispatchEvent(new Event('change')); })()");
        times.push_back(("a prompt", took));
        assert_eq!(browser.eval("document.getElementById('x-snapshot').disabled"), json!(true));
    }

    browser.place("#text-title");
    browser.until("document.querySelectorAll('#t-tokens .token').length > 0 && document.querySelector('#t-plot .main-svg') !== null");
    let took = browser.time("(() => { const s = document.getElementById('t-before'); s.value = 0; s.dispatchEvent(new Event('input')); })()");
    times.push_back(("another A", took));
    let names = "document.getElementById('t-plot').data.map((t) => t.name).join()";
    let first = browser.eval(names);
    browser.click("#t-tokens .token[data-k='1']");
    assert_ne!(browser.eval(names), first);
    browser.shot("text", Some("#text-over-training"));
    times
}
