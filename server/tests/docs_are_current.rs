//! Generated pages agree with the tables they are made from, and links between pages lead somewhere.
//! `make check` runs these by the prefix of their names. With `REDRAFT_WRITE_DOCS` in the environment a test writes its page instead of
//! comparing it; nothing else in the checkout is ever written.

use std::fs;
use std::path::{Path, PathBuf};

use redraft::{command, config};

/// With this in the environment the pages are written.
const WRITE_VARIABLE: &str = "REDRAFT_WRITE_DOCS";

#[test]
fn docs_are_current_compatibility() {
    settle("docs/compatibility.md", &command::compatibility::render());
}

#[test]
fn docs_are_current_configuration() {
    settle("docs/configuration.md", &config::render_docs());
}

#[test]
fn docs_are_current_example_file() {
    settle("docs/redraft.example.toml", &config::render_example());
}

#[test]
fn docs_are_current_links() {
    let mut broken = Vec::new();
    for page in pages() {
        let text = fs::read_to_string(&page).expect("a page of the checkout can be read");
        let folder = page.parent().expect("a page is in a folder");
        let dead = relative_links(&text).into_iter().filter(|link| !folder.join(link).exists());
        broken.extend(dead.map(|link| format!("{}: {link}", page.display())));
    }
    assert!(broken.is_empty(), "links that lead nowhere:\n{}", broken.join("\n"));
}

#[test]
fn docs_are_current_links_are_told_from_other_text() {
    let check = |text: &str, expected: &[&str]| assert_eq!(relative_links(text), expected, "{text}");
    check("see [one](a.md) and [two](../b/c.md#part)", &["a.md", "../b/c.md"]);
    check("[here](#part) [there](https://redis.io/docs) [mail](mailto:a@b.c)", &[]);
    check("`[not](a.md)` but [yes](b.md)", &["b.md"]);
    check("```\n[not](a.md)\n```\n[yes](b.md)", &["b.md"]);
    check("`[cursor, [key](x` is left open", &[]);
}

/// Compares a page of the checkout with what its table yields, or writes it.
fn settle(page: &str, rendered: &str) {
    let path = root().join(page);
    if std::env::var_os(WRITE_VARIABLE).is_some() {
        fs::write(&path, rendered).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
        return;
    }
    let found = fs::read_to_string(&path).unwrap_or_else(|error| panic!("cannot read {}: {error}; {}", path.display(), how_to_write()));
    if found == rendered {
        return;
    }
    let differs = found.lines().zip(rendered.lines()).position(|(found, rendered)| found != rendered);
    let line = differs.unwrap_or_else(|| found.lines().count().min(rendered.lines().count())) + 1;
    panic!("{page} differs from its table at line {line}; {}", how_to_write());
}

fn how_to_write() -> String {
    format!("{WRITE_VARIABLE}=1 cargo test --workspace --test docs_are_current writes it")
}

/// The root of the checkout.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package is a folder of the workspace").to_owned()
}

/// README.md and every page below docs/.
fn pages() -> Vec<PathBuf> {
    let mut pages = vec![root().join("README.md")];
    let mut folders = vec![root().join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder of the checkout can be read") {
            let path = entry.expect("a folder of the checkout can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path);
            }
        }
    }
    pages
}

/// Targets of the links that name files of the checkout, without their `#part`. What stands in code is no link.
fn relative_links(text: &str) -> Vec<String> {
    let mut links = Vec::new();
    let mut in_block = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if !in_block {
            // Every second piece between backticks is code.
            for prose in line.split('`').step_by(2) {
                let targets = prose.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
                let files = targets.filter(|target| !target.contains("://") && !target.starts_with("mailto:"));
                links.extend(files.filter_map(|target| target.split('#').next()).filter(|file| !file.is_empty()).map(str::to_owned));
            }
        }
    }
    links
}
