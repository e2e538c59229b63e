//! Whether a report is whole: its page's elements, its figures, the data inside.

use std::{collections::BTreeSet, fs, path::Path};

use super::json::Json;

/// What a page may weigh.
const LARGEST: usize = 12_000_000;

/// The figures of a reproduction without clamps, families on other text, or trained models: what `smoke` has.
const FIGURES: [&str; 19] = [
    "F3",
    "F4",
    "F5",
    "F6",
    "F7",
    "F8",
    "F9",
    "F10",
    "F11",
    "full-ablations",
    "before-after",
    "A1",
    "A2",
    "A3",
    "A4",
    "C1",
    "C2",
    "C3",
    "C4",
];

/// Everything that is wrong with the report in `folder`, a line each.
pub(super) fn faults(folder: &Path) -> Vec<String> {
    let page = match fs::read_to_string(folder.join("report.html")) {
        Ok(page) => page,
        Err(error) => return vec![format!("report.html: {error}")],
    };
    let mut faults = Vec::new();
    if page.len() > LARGEST {
        faults.push(format!("report.html has {} bytes, more than {LARGEST}", page.len()));
    }
    let elements = match elements(&page) {
        Ok(elements) => elements,
        Err(message) => {
            faults.push(format!("report.html: {message}"));
            return faults;
        }
    };
    let mut ids = BTreeSet::new();
    for Element { name, id, inside } in &elements {
        let Some(id) = id else { continue };
        if !ids.insert(id.as_str()) {
            faults.push(format!("report.html has the id {id} twice"));
        }
        // Texts of other types are packed numbers.
        if *name == "script"
            && inside.starts_with(['[', '{'])
            && let Err(message) = Json::read(inside)
        {
            faults.push(format!("report.html, data {id}: {message}"));
        }
    }
    let data = elements.iter().find(|element| element.name == "script" && element.id.as_deref() == Some("figures"));
    let data = data.and_then(|element| Json::read(element.inside).ok()).unwrap_or(Json::Null);
    let drawn: BTreeSet<&str> = data.list().iter().filter_map(|figure| figure.get("id")?.text()).collect();
    for figure in FIGURES {
        if !ids.contains(figure) {
            faults.push(format!("report.html has no figure {figure}"));
        } else if !drawn.contains(figure) {
            faults.push(format!("report.html has no numbers for figure {figure}"));
        }
        let path = format!("figures/{figure}.svg");
        match fs::read_to_string(folder.join(&path)) {
            Ok(image) => faults.extend(self::elements(&image).err().map(|message| format!("{path}: {message}"))),
            Err(error) => faults.push(format!("{path}: {error}")),
        }
        let path = format!("figures/{figure}.csv");
        match fs::read_to_string(folder.join(&path)) {
            Ok(table) if table.lines().count() > 1 => {}
            Ok(_) => faults.push(format!("{path}: no rows")),
            Err(error) => faults.push(format!("{path}: {error}")),
        }
    }
    faults
}

struct Element<'a> {
    name: &'a str,
    id: Option<String>,
    /// Of a script or a style: its text.
    inside: &'a str,
}

/// HTML's elements without an end, as far as pages of ours have them.
const VOID: [&str; 7] = ["br", "hr", "img", "input", "link", "meta", "col"];

/// The elements of a page or an image in which all that begins ends, in order.
fn elements(text: &str) -> Result<Vec<Element<'_>>, String> {
    let (mut elements, mut open) = (Vec::new(), Vec::new());
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        let line = || text[..text.len() - rest.len() + at].matches('\n').count() + 1;
        let tag = &rest[at + 1..];
        let end = tag_end(tag).ok_or_else(|| format!("a tag without end in line {}", line()))?;
        let (tag, after) = (&tag[..end], &tag[end + 1..]);
        rest = after;
        if tag.starts_with(['!', '?']) {
            continue;
        }
        if let Some(name) = tag.strip_prefix('/') {
            let expected = open.pop();
            if expected != Some(name.trim_end()) {
                return Err(format!("</{name}> ends {}, line {}", expected.unwrap_or("nothing"), line()));
            }
            continue;
        }
        let name = tag.split(|c: char| c.is_whitespace() || c == '/').next().unwrap_or_default();
        if name.is_empty() {
            return Err(format!("a bare < in line {}", line()));
        }
        let mut inside = "";
        if ["script", "style"].contains(&name) {
            let end = after.find(&format!("</{name}")).ok_or_else(|| format!("a {name} without end"))?;
            inside = &after[..end];
            rest = &after[end..];
        }
        let id = tag.split_once(" id=\"").and_then(|(_, id)| Some(id.split_once('"')?.0.to_string()));
        elements.push(Element { name, id, inside });
        if !tag.ends_with('/') && !VOID.contains(&name) {
            open.push(name);
        }
    }
    match open.pop() {
        None if elements.is_empty() => Err("it is empty".into()),
        None => Ok(elements),
        Some(name) => Err(format!("<{name}> does not end")),
    }
}

/// Where a tag's `>` is; quoted ones do not count.
fn tag_end(tag: &str) -> Option<usize> {
    let mut quote = None;
    tag.char_indices().find_map(|(at, c)| {
        match quote {
            Some(begun) if c == begun => quote = None,
            None if c == '"' || c == '\'' => quote = Some(c),
            None if c == '>' => return Some(at),
            _ => {}
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "<!doctype html>\n<html><head><meta charset=\"utf-8\"><style>a > b {}</style></head><body>";

    /// A folder with a whole report, and its page.
    fn report(name: &str) -> (std::path::PathBuf, String) {
        let folder = std::env::temp_dir().join(format!("xtask-page-{name}-{}", std::process::id()));
        fs::create_dir_all(folder.join("figures")).unwrap();
        let mut page = HEAD.to_string();
        for figure in FIGURES {
            page += &format!("<figure id=\"{figure}\"><a title='<>'>x</a></figure>\n");
            fs::write(folder.join(format!("figures/{figure}.svg")), "<svg><path d=\"\"/></svg>").unwrap();
            fs::write(folder.join(format!("figures/{figure}.csv")), "x,y\n1,2\n").unwrap();
        }
        let data: Vec<String> = FIGURES.iter().map(|figure| format!("{{\"id\":\"{figure}\"}}")).collect();
        let data = data.join(",");
        page += &format!("<script type=\"application/json\" id=\"figures\">[{data}]</script><script>1 < 2</script>");
        (folder, page + "</body></html>\n")
    }

    fn faults_of(folder: &Path, page: &str) -> Vec<String> {
        fs::write(folder.join("report.html"), page).unwrap();
        faults(folder)
    }

    #[test]
    fn faults_are_found() {
        let (folder, page) = report("faults");
        assert_eq!(faults_of(&folder, &page), Vec::<String>::new());
        let faults = |from: &str, to: &str| faults_of(&folder, &page.replace(from, to)).join("\n");
        assert_eq!(faults("<figure id=\"F7\">", "<figure>"), "report.html has no figure F7");
        assert_eq!(faults("{\"id\":\"C2\"}", "1"), "report.html has no numbers for figure C2");
        assert_eq!(faults("\"A1\">", "\"F3\">"), "report.html has the id F3 twice\nreport.html has no figure A1");
        assert!(faults("{\"id\":\"C2\"}", "{").contains("data figures: not JSON"));
        assert!(faults("</figure>", "").contains("</body> ends figure"));
        assert!(faults("</body></html>", "").contains("<body> does not end"));
        assert!(faults("1 < 2", &"x".repeat(LARGEST)).contains("bytes, more than 12000000"));
        assert!(faults_of(&folder, "").contains(&"report.html: it is empty".to_string()));
        fs::write(folder.join("figures/F9.svg"), "<svg>").unwrap();
        fs::remove_file(folder.join("figures/F9.csv")).unwrap();
        let found = faults_of(&folder, &page);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0], "figures/F9.svg: <svg> does not end");
        fs::remove_dir_all(folder).unwrap();
    }
}
