//! Takes `casemate job submit` and `casemate schedule create` apart: our options may stand before or after the file, and all else after the file is
//! the program's, options included.

use std::ffi::OsString;

use clap::{ArgAction, Command};

/// Puts the program's own arguments behind `--`, where the parser takes them as they are.
///
/// After the file, `--name` is ours if we have such an option; a program that has one of the same name gets it behind
/// a `--` of the user's.
pub fn settle(all: Vec<OsString>, command: &Command) -> Vec<OsString> {
    let Some((start, submit)) = find_submit(&all, command) else { return all };
    let mut ours: Vec<OsString> = all[..start].to_vec();
    let mut theirs: Vec<OsString> = Vec::new();
    let mut rest = all[start..].iter();
    while let Some(item) = rest.next() {
        let text = item.to_str().unwrap_or_default();
        if text == "--" {
            theirs.extend(rest.by_ref().cloned());
        } else if let Some(takes_next) = option(submit, command, text) {
            ours.push(item.clone());
            if takes_next {
                ours.extend(rest.next().cloned());
            }
        } else if text.starts_with('-') && text.len() > 1 && theirs.is_empty() {
            // Before the file there is nothing of the program's: the parser says what is wrong with it.
            ours.push(item.clone());
        } else {
            theirs.push(item.clone());
        }
    }
    ours.push("--".into());
    ours.extend(theirs);
    ours
}

/// Where the arguments of a command that names a program begin, and its description.
fn find_submit<'a>(all: &[OsString], command: &'a Command) -> Option<(usize, &'a Command)> {
    let mut words = Vec::new();
    let mut index = 1;
    while index < all.len() && words.len() < 2 {
        let text = all[index].to_str()?;
        match option(command, command, text) {
            Some(takes_next) => index += usize::from(takes_next),
            None => words.push(text),
        }
        index += 1;
    }
    let [group, verb] = words[..] else { return None };
    let takes_program = matches!((group, verb), ("job", "submit") | ("schedule", "create"));
    let found = command.find_subcommand(group)?.find_subcommand(verb)?;
    takes_program.then_some((index, found))
}

/// Whether `text` is an option of a command or of all, and whether its value is the next argument.
fn option(command: &Command, root: &Command, text: &str) -> Option<bool> {
    let (name, inline) = text.split_once('=').map_or((text, false), |(name, _)| (name, true));
    if matches!(name, "--help" | "-h" | "--version" | "-V") {
        return Some(false);
    }
    let global = root.get_arguments().filter(|argument| argument.is_global_set());
    let found = command.get_arguments().chain(global).find(|argument| match name.strip_prefix("--") {
        Some(long) => argument.get_long_and_visible_aliases().is_some_and(|names| names.contains(&long)),
        None => {
            let mut letters = name.strip_prefix('-').unwrap_or_default().chars();
            let letter = letters.next();
            letter.is_some() && letters.next().is_none() && argument.get_short() == letter
        }
    })?;
    Some(!inline && matches!(found.get_action(), ArgAction::Set | ArgAction::Append))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn settled(line: &str) -> String {
        let all: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let done = settle(all, &crate::Cli::command());
        done.iter().map(|item| item.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn our_options_are_ours_before_and_after_the_file_and_the_rest_is_the_programs() {
        for (given, expected) in [
            ("casemate job submit a.py", "casemate job submit -- a.py"),
            ("casemate job submit a.py x --output json", "casemate job submit --output json -- a.py x"),
            ("casemate --output json job submit --wait a.py 7", "casemate --output json job submit --wait -- a.py 7"),
            ("casemate job submit a.py --ttl PT8S t 1000", "casemate job submit --ttl PT8S -- a.py t 1000"),
            ("casemate job submit a.py --rows=5 -v --ttl=PT8S", "casemate job submit --ttl=PT8S -- a.py --rows=5 -v"),
            (
                "casemate job submit a.jar --class Main --num-executors=2 x",
                "casemate job submit --class Main --num-executors=2 -- a.jar x",
            ),
            ("casemate job submit a.py -- --ttl x", "casemate job submit -- a.py --ttl x"),
            ("casemate job submit --tll x a.py", "casemate job submit --tll -- x a.py"),
            ("casemate job submit a.py -5 -", "casemate job submit -- a.py -5 -"),
            ("casemate job submit --help", "casemate job submit --help --"),
            (
                "casemate schedule create --cron @daily a.py --cron-like x",
                "casemate schedule create --cron @daily -- a.py --cron-like x",
            ),
            ("casemate schedule list", "casemate schedule list"),
            ("casemate job list --status FAILED", "casemate job list --status FAILED"),
            ("casemate", "casemate"),
        ] {
            assert_eq!(settled(given), expected, "{given}");
        }
    }
}
