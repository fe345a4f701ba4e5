//! The first line of a script (`#!`), and whether what it asks for is there.

use std::{
    ffi::OsStr,
    fs::File,
    io::Read,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// What the first line of `program` asks for and is not there, in words that read on from its name; `None` if it is no script, or
/// all is there. What `env` is to look up is looked up in `path`, if one is given. Blocks on the disk.
pub fn missing_interpreter(program: &Path, path: Option<&OsStr>) -> Option<String> {
    let words = first_line(program)?;
    let (interpreter, mut arguments) = words.split_first()?;
    if !Path::new(interpreter).exists() {
        return Some(missing(interpreter, "which is not there"));
    }
    let path = path.filter(|_| Path::new(interpreter).file_name() == Some(OsStr::new("env")))?;
    if let Some((first, rest)) = arguments.split_first()
        && (first == "-S" || first == "--split-string")
    {
        arguments = rest;
    }
    // Other options and variables are its own affair.
    let name = arguments.first().filter(|name| !name.starts_with('-') && !name.contains(['=', '/']))?;
    let is_there = |folder: PathBuf| {
        let found = folder.join(name).metadata();
        found.is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    let is_absent = !std::env::split_paths(path).any(is_there);
    is_absent.then(|| missing(name, &format!("which is not in {}", path.display())))
}

fn missing(name: &str, how: &str) -> String {
    let remedy = if name.ends_with('\r') {
        "the line ends with CR LF, and has to end with LF alone"
    } else {
        "install it, or name another one"
    };
    format!("its first line asks for {name:?}, {how}; {remedy}")
}

/// The interpreter that the first line of a script names, and what it gives to it.
fn first_line(program: &Path) -> Option<Vec<String>> {
    // Opening something that is no regular file may block.
    if !program.is_file() {
        return None;
    }
    let mut begin = Vec::new();
    // The kernel reads no more of the line (`BINPRM_BUF_SIZE`).
    File::open(program).ok()?.take(256).read_to_end(&mut begin).ok()?;
    let line = begin.strip_prefix(b"#!")?.split(|&byte| byte == b'\n').next()?;
    let line = String::from_utf8_lossy(line);
    let words = line.split([' ', '\t']).filter(|word| !word.is_empty());
    Some(words.map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_first_line_asks_for_is_named_if_it_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let (script, bin) = (folder.path().join("script"), folder.path().join("bin"));
        std::fs::create_dir(&bin).unwrap();
        std::fs::write(bin.join("node"), "").unwrap();
        let in_path = |text: &str| {
            std::fs::write(&script, text).unwrap();
            missing_interpreter(&script, Some(bin.as_os_str()))
        };
        let node = bin.join("node");
        assert!(in_path("#!/usr/bin/env node\n").is_some(), "not executable");
        std::fs::set_permissions(node, PermissionsExt::from_mode(0o755)).unwrap();
        let not_there = "which is not there; install it, or name another one";
        let line_ends = "the line ends with CR LF, and has to end with LF alone";
        let bin = bin.display();
        for (text, found) in [
            ("#!/bin/sh\n", None),
            ("#! /bin/sh -e\n", None),
            ("\u{7f}ELF", None),
            ("#!/usr/bin/env node\n", None),
            ("#!/usr/bin/env -S node --x\n", None),
            ("#!/usr/bin/env -i x\n", None),
            (
                "#!/nowhere/python\n",
                Some(format!("its first line asks for \"/nowhere/python\", {not_there}")),
            ),
            (
                "#!/bin/sh\r\n",
                Some(format!("its first line asks for \"/bin/sh\\r\", which is not there; {line_ends}")),
            ),
            (
                "#!/usr/bin/env node\r\n",
                Some(format!("its first line asks for \"node\\r\", which is not in {bin}; {line_ends}")),
            ),
            (
                "#!/usr/bin/env -S deno run",
                Some(format!(
                    "its first line asks for \"deno\", which is not in {bin}; install it, or name another one"
                )),
            ),
        ] {
            assert_eq!(in_path(text), found, "{text}");
        }
    }
}
