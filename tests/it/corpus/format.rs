//! The files of cases: `data/README.md` says how they are written.

use std::{fs, path::Path};

use crate::support::frames::{self, END_HEADERS, END_STREAM};

/// One message, and what is to become of it.
#[derive(Clone, Debug)]
pub struct Case {
    /// Stands for `CASE` in what is sent: four characters.
    pub tag: String,
    pub file: String,
    pub name: String,
    pub verdict: String,
    pub method: String,
    /// The peer finishes sending behind it.
    pub closes: bool,
    sent: Vec<String>,
    expected: Vec<String>,
}

/// The cases of these files of `data`, tagged from `first` on.
pub fn load(files: &[&str], first: usize) -> Vec<Case> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/corpus/data");
    let mut cases = Vec::new();
    for file in files {
        let text = fs::read_to_string(directory.join(format!("{file}.txt"))).unwrap();
        for block in text.split("\n## ").skip(1) {
            cases.push(case(file, block, &format!("c{:03}", first + cases.len())));
        }
    }
    assert!(first + cases.len() <= 1000, "a tag has three digits");
    cases
}

fn case(file: &str, block: &str, tag: &str) -> Case {
    let mut lines = block.lines();
    let name = lines.next().unwrap_or_default().to_owned();
    let mut case = Case {
        tag: tag.to_owned(),
        file: file.to_owned(),
        name,
        verdict: String::new(),
        method: "GET".to_owned(),
        closes: false,
        sent: Vec::new(),
        expected: Vec::new(),
    };
    let mut why = false;
    for line in lines.filter(|line| !line.is_empty()) {
        let (mark, rest) = line.split_at(1);
        let rest = rest.strip_prefix(' ').unwrap_or(rest).replace("CASE", tag);
        match mark {
            "=" => case.verdict = rest,
            "?" => why = true,
            ">" => case.sent.push(rest),
            "<" => case.expected.push(rest),
            "@" if rest == "close" => case.closes = true,
            "@" => case.method = rest,
            _ => panic!("{file}: {}: what is {line:?}?", case.name),
        }
    }
    assert!(why && !case.verdict.is_empty() && !case.sent.is_empty(), "{file}: {}: not whole", case.name);
    case
}

impl Case {
    /// What is sent, as the file has it.
    pub fn lines(&self) -> &[String] {
        &self.sent
    }

    /// What is sent, of HTTP/1.1.
    pub fn bytes(&self) -> Vec<u8> {
        self.sent.iter().flat_map(|line| self.line(line)).collect()
    }

    /// What is to arrive, of HTTP/1.1; None where it does not matter.
    pub fn expected(&self) -> Option<Vec<u8>> {
        let expected = self.expected.iter().flat_map(|line| self.line(line)).collect();
        (!self.expected.is_empty()).then_some(expected)
    }

    /// What is sent, of HTTP/2: frames.
    pub fn frames(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut lines = self.sent.iter().peekable();
        while let Some(line) = lines.next() {
            let mut fields = Vec::new();
            while let Some(field) = lines.next_if(|line| line.starts_with(' ')) {
                let (name, value) = field[1..].split_once(" =").unwrap_or_else(|| self.wrong(field));
                let value = value.strip_prefix(' ').unwrap_or(value);
                fields.push((self.unescaped(name), self.unescaped(value)));
            }
            bytes.extend(self.frame(line, &fields));
        }
        bytes
    }

    /// `KIND STREAM [FLAG...] ["PAYLOAD"]`.
    fn frame(&self, line: &str, fields: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
        let (words, payload) = line.split_once(" \"").unwrap_or((line, "\""));
        let mut payload = self.unescaped(payload.strip_suffix('"').unwrap_or_else(|| self.wrong(line)));
        payload.extend(literals(fields));
        let mut words = words.split(' ');
        let kind = match words.next().unwrap_or_default() {
            "DATA" => frames::DATA,
            "HEADERS" => frames::HEADERS,
            "PRIORITY" => 2,
            "RST_STREAM" => frames::RST_STREAM,
            "SETTINGS" => frames::SETTINGS,
            "PUSH_PROMISE" => 5,
            "PING" => frames::PING,
            "GOAWAY" => frames::GOAWAY,
            "WINDOW_UPDATE" => frames::WINDOW_UPDATE,
            "CONTINUATION" => frames::CONTINUATION,
            "UNKNOWN" => 0x42,
            _ => self.wrong(line),
        };
        let stream = words.next().and_then(|word| word.parse().ok()).unwrap_or_else(|| self.wrong(line));
        let flags = words.map(|word| match word {
            "end-stream" | "ack" => END_STREAM,
            "end-headers" => END_HEADERS,
            "padded" => 8,
            "priority" => 0x20,
            _ => self.wrong(line),
        });
        frames::frame(kind, flags.fold(0, |all, flag| all | flag), stream, &payload)
    }

    /// The bytes of a line, its CRLF included unless it ends in `\`.
    fn line(&self, line: &str) -> Vec<u8> {
        match line.strip_suffix('\\').filter(|line| !line.ends_with('\\')) {
            Some(line) => self.unescaped(line),
            None => [&self.unescaped(line)[..], b"\r\n"].concat(),
        }
    }

    fn unescaped(&self, text: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut rest = text;
        while let Some((before, escape)) = rest.split_once('\\') {
            bytes.extend_from_slice(before.as_bytes());
            let (repeated, length) = match escape.as_bytes().first() {
                Some(b'r') => (vec![b'\r'], 1),
                Some(b'n') => (vec![b'\n'], 1),
                Some(b't') => (vec![b'\t'], 1),
                Some(b'0') => (vec![0], 1),
                Some(b'\\') => (vec![b'\\'], 1),
                Some(b's') => (vec![b' '], 1),
                Some(b'x') => {
                    let digits = escape.get(1..3).unwrap_or_else(|| self.wrong(text));
                    (vec![u8::from_str_radix(digits, 16).unwrap_or_else(|_| self.wrong(text))], 3)
                }
                Some(b'{') => self.repeated(text, escape),
                _ => self.wrong(text),
            };
            bytes.extend(repeated);
            rest = &escape[length..];
        }
        bytes.extend_from_slice(rest.as_bytes());
        bytes
    }

    /// `\{TEXT*TIMES}`.
    fn repeated(&self, text: &str, escape: &str) -> (Vec<u8>, usize) {
        let end = escape.find('}').unwrap_or_else(|| self.wrong(text));
        let (part, times) = escape[1..end].rsplit_once('*').unwrap_or_else(|| self.wrong(text));
        let times = times.parse().unwrap_or_else(|_| self.wrong(text));
        (self.unescaped(part).repeat(times), end + 1)
    }

    fn wrong(&self, text: &str) -> ! {
        panic!("{}: {}: cannot read {text:?}", self.file, self.name)
    }
}

/// HPACK: literals without indexing and without Huffman coding.
fn literals(fields: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            length(&mut block, text.len());
            block.extend_from_slice(text);
        }
    }
    block
}

/// An integer with a prefix of seven bits (RFC 7541 5.1).
fn length(block: &mut Vec<u8>, mut length: usize) {
    if length < 127 {
        return block.push(u8::try_from(length).unwrap());
    }
    block.push(127);
    length -= 127;
    while length >= 128 {
        block.push(u8::try_from(length % 128).unwrap() | 128);
        length /= 128;
    }
    block.push(u8::try_from(length).unwrap());
}
