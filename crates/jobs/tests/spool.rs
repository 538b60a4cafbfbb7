//! What the log of an attempt promises, whatever was written and wherever a crash cut it.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crypto::Key;
use jobs::spool::{Query, Reader, Writer};
use model::{LogId, LogLine, LogStream, NodeName};
use proptest::prelude::*;

type Batch = (u8, LogStream, Vec<Vec<u8>>, bool);

fn batches() -> impl Strategy<Value = Vec<Batch>> {
    let stream = prop_oneof![Just(LogStream::Stdout), Just(LogStream::Stderr), Just(LogStream::Platform)];
    let line = prop::collection::vec(any::<u8>().prop_map(|byte| if byte == b'\n' { b'n' } else { byte }), 1..40);
    prop::collection::vec((0_u8..3, stream, prop::collection::vec(line, 1..6), any::<bool>()), 1..20)
}

fn node(number: u8) -> NodeName {
    if number == 0 { NodeName::driver() } else { NodeName::executor(number.into()) }
}

/// Lines of the platform are the driver's.
fn node_of(batch: &Batch) -> NodeName {
    if batch.1 == LogStream::Platform { NodeName::driver() } else { node(batch.0) }
}

fn bytes((_, _, lines, ended): &Batch) -> Vec<u8> {
    let mut bytes = lines.join(&b'\n');
    bytes.extend(ended.then_some(b'\n'));
    bytes
}

/// Writes the batches with a clock that stands still for a while.
fn write(dir: &Path, key: &Key, batches: &[Batch]) -> Vec<LogLine> {
    let ticks = Arc::new(AtomicU64::new(0));
    let clock = move || 1_000_000 + ticks.fetch_add(1, Ordering::Relaxed) / 4 * 10;
    let mut writer = Writer::create(dir, key, clock).expect("writer");
    let mut expected = Vec::new();
    for batch in batches {
        let written = writer.append(&node(batch.0), batch.1, &bytes(batch)).expect("written");
        for (id, line) in (written.first.0..).zip(&batch.2) {
            let content = String::from_utf8_lossy(line).into_owned();
            expected.push(LogLine { id: LogId(id), node: node_of(batch), stream: batch.1, content });
        }
        assert_eq!(expected.last().expect("a line").id, written.last);
    }
    writer.flush().expect("durable");
    expected
}

fn all() -> Query {
    Query::everything()
}

fn segment(dir: &Path) -> PathBuf {
    let mut names: Vec<PathBuf> = fs::read_dir(dir).expect("directory").flatten().map(|entry| entry.path()).collect();
    names.sort();
    names.pop().expect("a segment")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_written_is_read_in_order_by_pages_of_any_size(batches in batches(), page in 1_usize..7, room in 1_usize..100) {
        let dir = tempfile::tempdir().expect("directory");
        let key = Key::random().expect("key");
        let expected = write(dir.path(), &key, &batches);
        prop_assert!(expected.windows(2).all(|pair| pair[0].id < pair[1].id), "ids strictly increase");
        let reader = Reader::open(dir.path(), &key);
        prop_assert_eq!(&reader.read(&all()).expect("read"), &expected);
        for wanted in [None, Some(NodeName::driver()), Some(NodeName::executor(2))] {
            let of_node = |line: &&LogLine| wanted.as_ref().is_none_or(|node| line.node == *node);
            let mut query = Query { node: wanted.clone(), max_lines: page, max_bytes: room, ..Query::default() };
            let mut paged = Vec::new();
            loop {
                let lines = reader.read(&query).expect("page");
                let Some(last) = lines.last() else { break };
                prop_assert!(lines.len() <= page);
                query.after = Some(last.id);
                paged.extend(lines);
            }
            prop_assert_eq!(paged, expected.iter().filter(of_node).cloned().collect::<Vec<_>>());
        }
        let middle = expected[expected.len() / 2].id;
        for wanted in [None, Some(NodeName::driver()), Some(NodeName::executor(2))] {
            let of_node = reader.read(&Query { node: wanted.clone(), ..all() }).expect("read");
            let query = Query { node: wanted, max_lines: page, newest: true, ..all() };
            prop_assert_eq!(&reader.read(&query).expect("read")[..], &of_node[of_node.len().saturating_sub(page)..]);
        }
        let from = reader.read(&Query { from: Some(middle), ..all() }).expect("read");
        prop_assert_eq!(&from[..], &expected[expected.len() / 2..]);
    }

    #[test]
    fn a_crash_at_any_byte_takes_whole_batches_from_the_end_only(batches in batches(), cut in 0.0..1.0_f64) {
        let dir = tempfile::tempdir().expect("directory");
        let key = Key::random().expect("key");
        let expected = write(dir.path(), &key, &batches);
        let file = segment(dir.path());
        let whole = fs::read(&file).expect("segment");
        let length = (whole.len() as f64 * cut) as usize;
        fs::write(&file, &whole[..length]).expect("cut");
        let reader = Reader::open(dir.path(), &key);
        let read = reader.read(&all()).expect("read");
        prop_assert_eq!(&read[..], &expected[..read.len()]);
        // What a power cut may leave in the place of the rest.
        fs::write(&file, [&whole[..length], &vec![0; whole.len() - length]].concat()).expect("zeros");
        if length > 64 {
            let zeroed = reader.read(&all());
            prop_assert!(matches!(&zeroed, Ok(lines) if lines[..] == read[..]) || read.is_empty(), "{:?}", zeroed);
        }
        fs::write(&file, &whole[..length]).expect("cut");
        // A writer that comes after goes on with later ids, and what was there stays.
        let mut writer = Writer::create(dir.path(), &key, || 0).expect("writer");
        let written = writer.append(&NodeName::driver(), LogStream::Stdout, b"after\n").expect("written");
        prop_assert!(read.last().is_none_or(|last| last.id < written.first));
        drop(writer);
        let after = reader.read(&all());
        // A torn frame that does not end its segment any more is still passed over: it is not whole.
        let after = after.expect("read");
        prop_assert_eq!(after.len(), read.len() + 1);
        prop_assert_eq!(&after[..read.len()], &read[..]);
    }

    #[test]
    fn the_parts_of_a_node_put_together_are_what_it_wrote(batches in batches()) {
        let dir = tempfile::tempdir().expect("directory");
        let key = Key::random().expect("key");
        let mut writer = Writer::create(dir.path(), &key, || 5).expect("writer");
        let (mut parts, mut streams) = (Vec::new(), [Vec::new(), Vec::new()]);
        for batch in &batches {
            let written = writer.append(&node(batch.0), batch.1, &bytes(batch)).expect("written");
            if batch.0 == 1 && batch.1 != LogStream::Platform {
                parts.push(written);
                streams[usize::from(batch.1 == LogStream::Stderr)].extend(bytes(batch));
            }
        }
        let reader = Reader::open(dir.path(), &key);
        let whole: Vec<_> = reader.parts().expect("parts").into_iter().filter(|part| part.node == node(1)).collect();
        let read_later = whole.iter().map(|part| (part.first, part.last, part.bytes)).collect::<Vec<_>>();
        let bytes_of_all = parts.iter().map(|part| part.bytes).sum::<u64>();
        let written = parts.first().zip(parts.last()).map(|(first, last)| (first.first, last.last, bytes_of_all));
        prop_assert_eq!(read_later, Vec::from_iter(written), "all of it in one part: it is short");
        let mut together = Vec::new();
        for part in parts {
            let mut raw = reader.raw(&node(1), part.first, part.last).expect("raw");
            let before = together.len();
            while let Some(piece) = raw.next_piece().expect("piece") {
                together.extend(piece);
            }
            prop_assert_eq!((together.len() - before) as u64, part.bytes);
        }
        // Line feeds may have come between the streams, nothing else: and one stream alone is exact.
        let bare = |bytes: &[u8]| { let mut bare: Vec<u8> = bytes.iter().copied().filter(|byte| *byte != b'\n').collect(); bare.sort_unstable(); bare };
        prop_assert_eq!(bare(&together), bare(&streams.concat()));
        if streams[1].is_empty() {
            prop_assert_eq!(&together, &streams[0]);
        }
    }
}

#[test]
fn a_wrong_key_opens_nothing() {
    let dir = tempfile::tempdir().expect("directory");
    let key = Key::random().expect("key");
    write(dir.path(), &key, &[(0, LogStream::Stdout, vec![b"secret".to_vec()], true)]);
    let other = Key::random().expect("key");
    assert!(Reader::open(dir.path(), &other).read(&all()).is_err());
    assert!(Writer::create(dir.path(), &other, || 0).is_err());
    assert!(!fs::read(segment(dir.path())).expect("segment").windows(6).any(|window| window == b"secret"));
}

#[test]
fn a_segment_is_not_read_under_another_name() {
    let dir = tempfile::tempdir().expect("directory");
    let key = Key::random().expect("key");
    write(dir.path(), &key, &[(0, LogStream::Stdout, vec![b"line".to_vec()], true)]);
    fs::rename(segment(dir.path()), dir.path().join(format!("{:020}.log", 7))).expect("renamed");
    assert!(Reader::open(dir.path(), &key).read(&all()).is_err());
}

#[test]
fn a_log_of_many_segments_is_found_by_id() {
    let dir = tempfile::tempdir().expect("directory");
    let key = Key::random().expect("key");
    let mut writer = Writer::create(dir.path(), &key, || 1).expect("writer");
    let line = [&[b'x'; 1023][..], b"\n"].concat().repeat(60);
    let mut ids = Vec::new();
    for _ in 0..400 {
        let written = writer.append(&NodeName::driver(), LogStream::Stdout, &line).expect("written");
        ids.extend(written.first.0..=written.last.0);
    }
    writer.flush().expect("durable");
    assert!(fs::read_dir(dir.path()).expect("directory").count() >= 3, "rotated");
    let reader = Reader::open(dir.path(), &key);
    for at in [0, 59, 60, 7_999, 12_344, 23_999] {
        let from = Some(LogId(ids[at]));
        let lines = reader.read(&Query { from, max_lines: 2, max_bytes: 1 << 20, ..Query::default() }).expect("read");
        assert_eq!(lines[0].id, LogId(ids[at]));
        assert_eq!(lines.len(), if at == 23_999 { 1 } else { 2 });
    }
    assert!(reader.read(&Query { from: Some(LogId(ids[23_999] + 1)), ..all() }).expect("read").is_empty());
    assert_eq!(reader.read(&all()).expect("read").len(), 24_000);

    // A reader that asks from a whole second on gets all of that second at once, however much was written in it.
    let mut seconds: HashMap<u64, usize> = HashMap::new();
    for id in &ids {
        *seconds.entry(id / 1_000_000_000).or_default() += 1024;
    }
    assert!(seconds.len() > 1 && seconds.values().all(|bytes| *bytes < 8 << 20), "{seconds:?}");
}

#[test]
fn the_newest_lines_of_a_long_log_are_found_from_its_end() {
    let dir = tempfile::tempdir().expect("directory");
    let key = Key::random().expect("key");
    let mut writer = Writer::create(dir.path(), &key, || 1_000_000).expect("writer");
    // Of two nodes in turn, a hundred lines a frame.
    for batch in 0..10_000_u32 {
        let lines: String = (0..100).map(|line| format!("line {} of many\n", batch * 100 + line)).collect();
        let node = if batch % 2 == 0 { NodeName::driver() } else { NodeName::executor(1) };
        writer.append(&node, LogStream::Stdout, lines.as_bytes()).expect("written");
    }
    writer.flush().expect("durable");
    let reader = Reader::open(dir.path(), &key);
    let newest = |node: Option<NodeName>, max_lines, max_bytes| {
        let lines = reader.read(&Query { node, max_lines, max_bytes, newest: true, ..Query::default() }).expect("read");
        lines.into_iter().map(|line| line.content).collect::<Vec<_>>()
    };
    let lines =
        |numbers: std::ops::Range<u32>| numbers.map(|number| format!("line {number} of many")).collect::<Vec<_>>();

    // All but the last tenth is made unreadable: whoever opened any of it would fail.
    let mut names: Vec<PathBuf> =
        fs::read_dir(dir.path()).expect("directory").flatten().map(|entry| entry.path()).collect();
    names.sort();
    assert!(names.len() > 2, "many segments");
    for name in &names[..names.len() - 1] {
        let length = fs::metadata(name).expect("a segment").len();
        fs::write(name, vec![0xff; usize::try_from(length).expect("a length")]).expect("damaged");
    }
    assert!(reader.read(&all()).is_err());
    assert_eq!(newest(None, 1_000, 1 << 20), lines(999_000..1_000_000));
    assert_eq!(newest(None, 1, 1 << 20), lines(999_999..1_000_000));
    assert_eq!(newest(None, 1_000, 50), lines(999_998..1_000_000), "two of 22 bytes");
    assert_eq!(newest(None, 1_000, 1), lines(999_999..1_000_000), "one is given however long it is");
    let mut of_driver = lines(999_600..999_700);
    of_driver.extend(lines(999_800..999_900));
    assert_eq!(newest(Some(NodeName::driver()), 200, 1 << 20), of_driver);
    assert!(newest(Some(NodeName::driver()), 0, 1 << 20).is_empty());
}

#[test]
fn a_log_that_does_not_exist_is_empty() {
    let dir = tempfile::tempdir().expect("directory");
    let reader = Reader::open(&dir.path().join("absent"), &Key::random().expect("key"));
    assert!(reader.read(&all()).expect("read").is_empty());
}
