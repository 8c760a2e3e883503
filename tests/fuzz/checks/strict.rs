//! A second reader of HTTP/1.1, written from RFC 9110 and 9112 alone and sharing no code with towpath: it takes only what no
//! reader could take differently, and says what is wrong with the rest. Simple and slow.

/// A message: a request or a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The request line or status line.
    pub first: String,
    /// Names in lower case, values without the white space around them, in the order of the message.
    pub fields: Vec<(String, Vec<u8>)>,
    /// The content, without its framing.
    pub body: Vec<u8>,
    /// Behind a chunked body.
    pub trailers: Vec<(String, Vec<u8>)>,
}

/// How far a reading came.
#[derive(Debug, PartialEq, Eq)]
pub enum Read {
    /// A message, and how many bytes it took.
    Whole(Message, usize),
    /// It ends before the message does; whether the head was whole.
    Incomplete(bool),
}

impl Message {
    /// All values of a field.
    pub fn all(&self, name: &str) -> Vec<&[u8]> {
        self.fields.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_slice()).collect()
    }

    /// The part of the first line with this number.
    pub fn word(&self, number: usize) -> &str {
        self.first.split(' ').nth(number).unwrap_or_default()
    }
}

/// Reads a request as an origin server gets it from a proxy.
pub fn request(bytes: &[u8]) -> Result<Read, String> {
    match request_head(bytes)? {
        None => Ok(Read::Incomplete(false)),
        Some((head, at, length)) => content(head, bytes, at, length.unwrap_or(0)),
    }
}

/// A request's head, where it ends, and the length that it declares.
pub fn request_head(bytes: &[u8]) -> Result<Option<(Message, usize, Option<usize>)>, String> {
    let Some((head, at)) = head(bytes)? else { return Ok(None) };
    check_request_line(&head.first)?;
    let hosts = head.all("host").len();
    if hosts > 1 || (hosts == 0 && head.first.ends_with("1.1")) {
        return Err(format!("{hosts} Hosts"));
    }
    let length = length(&head)?;
    Ok(Some((head, at, length)))
}

/// The length that a response's head declares; none also when there are chunks.
pub fn response_length(bytes: &[u8]) -> Result<Option<usize>, String> {
    match head(bytes)? {
        Some((head, _)) => length(&head),
        None => Err("no whole head".to_owned()),
    }
}

/// Reads a response to a request of this method, as a caller gets it from a proxy: one with neither a length nor chunks reaches
/// to the end of the bytes.
pub fn response(bytes: &[u8], method: &str) -> Result<Read, String> {
    let Some((mut head, at)) = head(bytes)? else { return Ok(Read::Incomplete(false)) };
    check_status_line(&head.first)?;
    let status = head.word(1).to_owned();
    let chunked = !head.all("transfer-encoding").is_empty();
    let declared = length(&head)?;
    if status.starts_with('1') || status == "204" {
        if chunked || declared.is_some() {
            return Err(format!("a {status} with a body"));
        }
        return Ok(Read::Whole(head, at));
    }
    if method == "HEAD" || status == "304" {
        return Ok(Read::Whole(head, at));
    }
    if declared.is_none() && !chunked {
        head.body = bytes[at..].to_vec();
        return Ok(Read::Whole(head, bytes.len()));
    }
    content(head, bytes, at, declared.unwrap_or(0))
}

/// A head, and where it ends.
fn head(bytes: &[u8]) -> Result<Option<(Message, usize)>, String> {
    let Some((first, mut at)) = line(bytes, 0)? else { return Ok(None) };
    let first = String::from_utf8_lossy(first).into_owned();
    let mut fields = Vec::new();
    loop {
        let Some((text, next)) = line(bytes, at)? else { return Ok(None) };
        at = next;
        if text.is_empty() {
            return Ok(Some((Message { first, fields, body: Vec::new(), trailers: Vec::new() }, at)));
        }
        fields.push(field(text)?);
    }
}

/// The line that begins at `at`, and where the next one does.
fn line(bytes: &[u8], at: usize) -> Result<Option<(&[u8], usize)>, String> {
    let rest = &bytes[at..];
    let Some(end) = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n' | 0)) else { return Ok(None) };
    match rest[end..] {
        [b'\r', b'\n', ..] => Ok(Some((&rest[..end], at + end + 2))),
        [b'\r'] => Ok(None),
        _ => Err(format!("a line does not end in CRLF: {:?}", String::from_utf8_lossy(&rest[..end]))),
    }
}

fn field(text: &[u8]) -> Result<(String, Vec<u8>), String> {
    let wrong = |what| format!("{what}: {:?}", String::from_utf8_lossy(text));
    let colon = text.iter().position(|byte| *byte == b':').ok_or_else(|| wrong("no colon"))?;
    let (name, value) = (&text[..colon], text[colon + 1..].trim_ascii());
    if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
        return Err(wrong("a name that is no token"));
    }
    if value.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
        return Err(wrong("a control character"));
    }
    Ok((String::from_utf8_lossy(name).to_ascii_lowercase(), value.to_vec()))
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn check_request_line(first: &str) -> Result<(), String> {
    let words: Vec<&str> = first.split(' ').collect();
    let [method, target, version] = words[..] else { return Err(format!("not three words: {first:?}")) };
    let lawful = !method.is_empty()
        && method.bytes().all(is_token)
        && (target.starts_with('/') || (target == "*" && method == "OPTIONS"))
        && !target.bytes().any(|byte| byte.is_ascii_control() || byte == b'#')
        && ["HTTP/1.1", "HTTP/1.0"].contains(&version);
    if lawful { Ok(()) } else { Err(format!("a request line that is none: {first:?}")) }
}

fn check_status_line(first: &str) -> Result<(), String> {
    let mut words = first.splitn(3, ' ');
    let (version, status, reason) = (words.next(), words.next().unwrap_or_default(), words.next());
    let lawful = version == Some("HTTP/1.1")
        && status.len() == 3
        && status.bytes().all(|byte| byte.is_ascii_digit())
        && reason.is_some_and(|reason| !reason.bytes().any(|byte| byte.is_ascii_control()));
    if lawful { Ok(()) } else { Err(format!("a status line that is none: {first:?}")) }
}

/// The declared length; none when there is none, also when there are chunks.
fn length(head: &Message) -> Result<Option<usize>, String> {
    let (codings, lengths) = (head.all("transfer-encoding"), head.all("content-length"));
    match (&codings[..], &lengths[..]) {
        ([], []) => Ok(None),
        ([coding], []) if coding.eq_ignore_ascii_case(b"chunked") && head.first.contains("HTTP/1.1") => {
            Ok(None)
        }
        ([], [length]) if !length.is_empty() && length.iter().all(u8::is_ascii_digit) => {
            let length = String::from_utf8_lossy(length).parse().map_err(|_| "a huge length")?;
            Ok(Some(length))
        }
        _ => Err(format!("codings {codings:?} and lengths {lengths:?}")),
    }
}

fn content(mut head: Message, bytes: &[u8], at: usize, length: usize) -> Result<Read, String> {
    if !head.all("transfer-encoding").is_empty() {
        return chunks(head, bytes, at);
    }
    match at.checked_add(length).and_then(|end| bytes.get(at..end)) {
        Some(body) => {
            head.body = body.to_vec();
            Ok(Read::Whole(head, at + length))
        }
        None => Ok(Read::Incomplete(true)),
    }
}

fn chunks(mut message: Message, bytes: &[u8], mut at: usize) -> Result<Read, String> {
    loop {
        let Some((size, next)) = line(bytes, at)? else { return Ok(Read::Incomplete(true)) };
        let size = chunk_size(size)?;
        if size == 0 {
            return trailers(message, bytes, next);
        }
        let Some(end) = next.checked_add(size).filter(|end| *end <= bytes.len()) else {
            return Ok(Read::Incomplete(true));
        };
        message.body.extend_from_slice(&bytes[next..end]);
        match bytes[end..] {
            [b'\r', b'\n', ..] => at = end + 2,
            [] | [b'\r'] => return Ok(Read::Incomplete(true)),
            _ => return Err("no CRLF behind a chunk".to_owned()),
        }
    }
}

fn chunk_size(line: &[u8]) -> Result<usize, String> {
    let text = String::from_utf8_lossy(line);
    let (size, extension) = text.split_at(text.find([';', ' ', '\t']).unwrap_or(text.len()));
    let lawful = !size.is_empty()
        && size.len() < 16
        && size.bytes().all(|byte| byte.is_ascii_hexdigit())
        && (extension.is_empty() || extension.trim_start().starts_with(';'))
        && !extension.chars().any(|c| c.is_ascii_control() && c != '\t');
    if !lawful {
        return Err(format!("a chunk size that is none: {text:?}"));
    }
    usize::from_str_radix(size, 16).map_err(|error| error.to_string())
}

fn trailers(mut message: Message, bytes: &[u8], mut at: usize) -> Result<Read, String> {
    loop {
        let Some((text, next)) = line(bytes, at)? else { return Ok(Read::Incomplete(true)) };
        at = next;
        if text.is_empty() {
            return Ok(Read::Whole(message, at));
        }
        message.trailers.push(field(text)?);
    }
}
