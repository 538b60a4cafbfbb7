//! Installs, verifies or removes engines: `install DIR [VERSION...]`, to try the library without the binary.

use std::{path::Path, process::ExitCode};

use engine::install::{Options, Progress, Wanted, install, verify};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(dir) = arguments.next() else {
        eprintln!("usage: install DIR [VERSION...]");
        return ExitCode::from(2);
    };
    let asked: Vec<String> = arguments.collect();
    let wanted = match asked.is_empty() {
        true => Ok(Wanted::all()),
        false => asked.iter().map(|text| Wanted::parse(text)).collect(),
    };
    let installed = wanted.and_then(|wanted| {
        let options = Options::new(jiff::tz::Offset::UTC.to_datetime(jiff::Timestamp::now()).date());
        wanted.iter().try_for_each(|what| {
            let began = std::time::Instant::now();
            let engine = install(Path::new(&dir), what, &options, &mut |progress| match progress {
                Progress::Step { number, of, what } => println!("[{number}/{of}] {:.1?} {what}", began.elapsed()),
                Progress::Detail(line) => println!("      {line}"),
            })?;
            println!("{} in {:.1?}", engine.description, began.elapsed());
            verify(Path::new(&dir), &engine.version)
        })
    });
    match installed {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("error: {fault}");
            let mut cause = std::error::Error::source(&fault);
            while let Some(inner) = cause {
                eprintln!("cause: {inner}");
                cause = inner.source();
            }
            ExitCode::FAILURE
        }
    }
}
