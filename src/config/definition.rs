//! What a definition of keys is made of.
//!
//! The definition itself is in `keys/`; what it does to a file is in `tree.rs`.

/// The keys of one table.
#[derive(Debug)]
pub struct TableDef {
    /// One sentence.
    pub doc: &'static str,
    /// In the order of the reference; slices, so that tables can share keys.
    pub keys: &'static [&'static [Key]],
    /// Keys that exclude each other.
    pub choose: Option<Choose>,
}

/// Keys of which only one may be present.
#[derive(Debug)]
pub struct Choose {
    /// The alternatives.
    pub keys: &'static [&'static str],
    /// Whether one of them must be present.
    pub required: bool,
}

/// One key.
#[derive(Debug)]
pub struct Key {
    /// As written.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// What silence means.
    pub need: Need,
    /// A TOML value that is valid.
    pub example: &'static str,
    /// One line: what it means, with the unit.
    pub doc: &'static str,
    /// Why it is refused, for a key whose feature is not built yet.
    pub refused: Option<&'static str>,
}

/// What silence means.
#[derive(Clone, Copy, Debug)]
pub enum Need {
    /// A problem.
    Required,
    /// The words say what happens then.
    Optional(&'static str),
    /// This TOML value.
    Default(&'static str),
}

/// What a key takes.
#[derive(Debug)]
pub enum Kind {
    /// A string of a syntax.
    Text(Text),
    /// A whole number.
    Number {
        /// The least.
        min: u64,
        /// The greatest.
        max: u64,
    },
    /// A number from 0 to 100, also with a fraction.
    Percent,
    /// A whole number within bounds, or a string.
    NumberOr(&'static Kind, Text),
    /// `true` or `false`.
    Flag,
    /// `true` only: a form that says something by being there.
    True,
    /// An array.
    List {
        /// Of these.
        item: &'static Kind,
        /// Whether it may be empty.
        empty: bool,
    },
    /// One table.
    Table(&'static TableDef),
    /// A table for each name of the user's choice.
    Map {
        /// What the names are like.
        name: Text,
        /// What stands behind a name.
        value: &'static Kind,
        /// A name for examples.
        example: &'static str,
    },
    /// A short form, or a table.
    Or(Text, &'static TableDef),
}

/// The syntax of a string.
#[derive(Clone, Copy, Debug)]
pub enum Text {
    /// A name that metrics and logs carry.
    Name,
    /// The name of a listener of this file.
    ListenerName,
    /// The name of a service of this file.
    ServiceName,
    /// One of these words.
    Choice(&'static [Choice]),
    /// A time span.
    Duration {
        /// Whether none at all makes sense.
        zero: bool,
    },
    /// A number of bytes within these bounds.
    Size {
        /// The least.
        min: u64,
        /// The greatest.
        max: u64,
    },
    /// A host, `*.suffix` or `*`.
    HostPattern,
    /// The whole path of a request.
    Path,
    /// The beginning of a path.
    PathPrefix,
    /// A regular expression.
    Regex,
    /// An HTTP method.
    Method,
    /// A header's name.
    HeaderName,
    /// A query parameter's name.
    QueryName,
    /// A header's or query parameter's value.
    Value,
    /// Where to listen, TCP or Unix.
    Listen,
    /// An endpoint's address.
    Endpoint,
    /// A DNS server's address.
    DnsServer,
    /// A DNS name with a port.
    DnsName,
    /// A DNS name with `{host}` in it.
    HostTemplate,
    /// A file, `stdout`, or a Unix socket.
    LogPath,
    /// What a line of the access log looks like.
    LogFormat,
    /// A status, or a class of them.
    Status,
    /// A file.
    File,
    /// The name of SRV records.
    SrvName,
    /// The end of a DNS name.
    DnsSuffix,
    /// A range of addresses.
    Subnet,
    /// What of a request is hashed.
    HashKey,
    /// What makes a request one that is sent again.
    RetryOn,
    /// How requests are aborted.
    Abort,
    /// A path with a query, if there is one.
    RequestPath,
    /// The name of a gRPC service, or nothing.
    GrpcService,
    /// A host, with a port or without.
    Authority,
    /// A string in which `*` stands for any characters.
    Pattern,
    /// A SPIFFE id, with `*`.
    Spiffe,
    /// What a certificate is for.
    ServerName,
    /// Where the node of an endpoint is.
    NodeOf,
    /// The name of a claim.
    Claim,
    /// A file, or an https URL.
    FileOrUrl,
    /// The URL of an OpenTelemetry collector.
    Otlp,
    /// The name of an issuer of tokens in this file.
    Provider,
    /// The name of a service of this file, or `*`.
    ServiceOrAny,
}

/// One word of a choice.
#[derive(Debug)]
pub struct Choice {
    /// As written.
    pub word: &'static str,
    /// What it means.
    pub doc: &'static str,
    /// Why it is refused, when its feature is not built yet.
    pub refused: Option<&'static str>,
}

impl Choice {
    /// Stands for whatever other word a user may write.
    pub const ANY_OTHER: &str = "*";

    /// A word that works.
    pub const fn built(word: &'static str, doc: &'static str) -> Self {
        Self { word, doc, refused: None }
    }

    /// A word whose feature is not built yet.
    pub const fn refused(word: &'static str, why: &'static str) -> Self {
        Self { word, doc: "", refused: Some(why) }
    }
}

impl Key {
    /// A key that must be there.
    pub const fn required(name: &'static str, kind: Kind, example: &'static str, doc: &'static str) -> Self {
        Self { name, kind, need: Need::Required, example, doc, refused: None }
    }

    /// A key with a default, which is also its example.
    pub const fn default(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Self {
        Self { name, kind, need: Need::Default(default), example: default, doc, refused: None }
    }

    /// A key that may be silent; `silence` says what that means.
    pub const fn optional(
        name: &'static str,
        kind: Kind,
        silence: &'static str,
        example: &'static str,
        doc: &'static str,
    ) -> Self {
        Self { name, kind, need: Need::Optional(silence), example, doc, refused: None }
    }

    /// A table in which everything has a default.
    pub const fn table(name: &'static str, def: &'static TableDef) -> Self {
        Self {
            name,
            kind: Kind::Table(def),
            need: Need::Default("{}"),
            example: "{}",
            doc: def.doc,
            refused: None,
        }
    }

    /// A key of the contract whose feature is not built yet; `why` is a clause, as in "retries are not built yet".
    pub const fn refused(name: &'static str, why: &'static str) -> Self {
        let kind = Kind::Flag;
        Self { name, kind, need: Need::Optional(""), example: "", doc: "", refused: Some(why) }
    }
}

impl TableDef {
    /// Every key, also those that are refused.
    pub fn all(&self) -> impl Iterator<Item = &'static Key> + use<> {
        self.keys.iter().flat_map(|group| group.iter())
    }

    /// The keys that work.
    pub fn built(&self) -> impl Iterator<Item = &'static Key> + use<> {
        self.all().filter(|key| key.refused.is_none())
    }

    /// The key of this name.
    pub fn key(&self, name: &str) -> Option<&'static Key> {
        self.all().find(|key| key.name == name)
    }
}
