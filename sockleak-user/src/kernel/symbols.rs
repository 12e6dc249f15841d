//! `/proc/kallsyms`: which symbols exist and where.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufRead, BufReader};

/// The kernel's symbol table.
pub const KALLSYMS: &str = "/proc/kallsyms";

/// KSYM_NAME_LEN (512) and the columns before and after it, doubled.
const MAX_LINE: usize = 2048;

/// Why the symbol table could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the kernel's symbols from {KALLSYMS}: {0} (CONFIG_KALLSYMS)")]
pub struct SymbolsError(#[from] io::Error);

/// A symbol that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Symbol {
    /// Where it lies; `None` when the kernel hides addresses from this process.
    pub address: Option<u64>,
    /// Type letter as in nm(1): `T` and `t` for functions, `D`, `d`, `B`, `b`, `R`, `r` for data.
    pub kind: char,
    /// The module it belongs to, if not the kernel itself.
    pub module: Option<String>,
}

/// The symbols that were asked for and exist.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Symbols {
    /// By name.
    pub found: BTreeMap<String, Symbol>,
    /// All addresses read as zero: `kernel.kptr_restrict` or a missing CAP_SYSLOG hides them.
    pub hidden: bool,
}

impl Symbols {
    /// Reads the running kernel's table; with nothing wanted it is not even opened.
    ///
    /// # Errors
    /// When `/proc/kallsyms` cannot be read.
    pub fn load(wanted: &[&str]) -> Result<Self, SymbolsError> {
        match wanted {
            [] => Ok(Self::default()),
            _ => Ok(Self::read(
                BufReader::with_capacity(64 << 10, File::open(KALLSYMS)?),
                wanted,
            )?),
        }
    }

    /// Picks the wanted symbols out of a table with lines `address type name [module]`, and stops
    /// when all are found. Lines of another form are passed over.
    ///
    /// # Errors
    /// When the reader fails.
    pub fn read(mut table: impl BufRead, wanted: &[&str]) -> io::Result<Self> {
        let wanted: HashMap<&[u8], &str> =
            wanted.iter().map(|name| (name.as_bytes(), *name)).collect();
        let mut symbols = Self::default();
        let mut any_address = false;
        let mut any_line = false;
        let mut line = Vec::with_capacity(MAX_LINE);
        while next_line(&mut table, &mut line)? {
            let Some((address, kind, name, module)) = columns(&line) else {
                continue;
            };
            any_line = true;
            any_address |= address != 0;
            let Some(name) = wanted.get(name) else {
                continue;
            };
            let symbol = Symbol {
                address: (address != 0).then_some(address),
                kind: char::from(kind),
                module,
            };
            // The kernel's own symbols come first; a module's namesake is not what was meant.
            symbols.found.entry((*name).to_owned()).or_insert(symbol);
            if symbols.found.len() == wanted.len() {
                break;
            }
        }
        symbols.hidden = any_line && !any_address;
        Ok(symbols)
    }

    /// Whether the symbol exists, hidden or not.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.found.contains_key(name)
    }

    /// The address of a symbol, where it is visible.
    #[must_use]
    pub fn address(&self, name: &str) -> Option<u64> {
        self.found.get(name)?.address
    }
}

/// Reads a line without its newline into `line`; of an overlong one only the beginning is kept.
fn next_line(table: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let mut begun = false;
    loop {
        let chunk = match table.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        if chunk.is_empty() {
            return Ok(begun);
        }
        begun = true;
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let part = chunk.get(..end.unwrap_or(chunk.len())).unwrap_or(chunk);
        let room = MAX_LINE.saturating_sub(line.len());
        line.extend_from_slice(part.get(..room).unwrap_or(part));
        let used = end.map_or(chunk.len(), |end| end + 1);
        table.consume(used);
        if end.is_some() {
            return Ok(true);
        }
    }
}

fn columns(line: &[u8]) -> Option<(u64, u8, &[u8], Option<String>)> {
    let mut columns = line
        .split(|byte| matches!(byte, b' ' | b'\t'))
        .filter(|column| !column.is_empty());
    let address = std::str::from_utf8(columns.next()?).ok()?;
    let address = u64::from_str_radix(address, 16).ok()?;
    let [kind] = columns.next()? else {
        return None;
    };
    let name = columns.next()?;
    let module = columns
        .next()
        .and_then(|column| column.strip_prefix(b"[")?.strip_suffix(b"]"))
        .map(|module| {
            module
                .iter()
                .map(|byte| match byte {
                    b'!'..=b'~' => char::from(*byte),
                    _ => '?',
                })
                .collect()
        });
    Some((address, *kind, name, module))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"\
ffffffff81000000 T _text
ffffffff82009830 T tcp_init_sock
ffffffff83000010 b table_perturb
ffffffffc0001000 t table_perturb\t[dccp]
ffffffffc0002000 t tcp_init_sock\t[mymod]

not a line
zzzz T nonsense
ffffffff84000000 TT two_letters
ffffffff85000000 T
ffffffffc0003000 t only_in_module\t[m]";

    #[test]
    fn finds_what_is_wanted_and_nothing_else() {
        let wanted = ["tcp_init_sock", "table_perturb", "absent", "only_in_module"];
        let symbols = Symbols::read(TABLE, &wanted).unwrap();
        assert_eq!(symbols.found.len(), 3);
        assert!(!symbols.hidden);
        assert_eq!(
            symbols.address("tcp_init_sock"),
            Some(0xffff_ffff_8200_9830)
        );
        assert_eq!(symbols.found["only_in_module"].module.as_deref(), Some("m"));
        assert!(!symbols.contains("absent"));
        assert!(!symbols.contains("_text"));
    }

    #[test]
    fn the_kernels_own_symbol_wins_over_a_modules() {
        let symbols = Symbols::read(TABLE, &["table_perturb"]).unwrap();
        let symbol = &symbols.found["table_perturb"];
        assert_eq!(symbol.address, Some(0xffff_ffff_8300_0010));
        assert_eq!((symbol.kind, symbol.module.as_deref()), ('b', None));
    }

    #[test]
    fn hidden_addresses_are_no_addresses() {
        let table = b"0000000000000000 T _text\n0000000000000000 D socket_file_ops\n";
        let symbols = Symbols::read(&table[..], &["socket_file_ops"]).unwrap();
        assert!(symbols.hidden);
        assert!(symbols.contains("socket_file_ops"));
        assert_eq!(symbols.address("socket_file_ops"), None);
    }

    #[test]
    fn an_empty_table_hides_nothing() {
        let symbols = Symbols::read(&b""[..], &["x"]).unwrap();
        assert!(!symbols.hidden);
        assert!(symbols.found.is_empty());
    }

    #[test]
    fn a_zero_address_alone_is_not_hiding() {
        // Per-CPU symbols really lie at 0.
        let table = b"0000000000000000 A fixed_percpu_data\nffffffff81000000 T _text\n";
        let symbols = Symbols::read(&table[..], &["_text"]).unwrap();
        assert!(!symbols.hidden);
    }

    #[test]
    fn overlong_lines_neither_grow_nor_shift_the_rest() {
        let mut table = b"ffffffff81000000 T ".to_vec();
        table.extend(std::iter::repeat_n(b'x', 3 * MAX_LINE));
        table.extend(b"\nffffffff81000020 T wanted\n");
        let reader = BufReader::with_capacity(7, &table[..]);
        let symbols = Symbols::read(reader, &["wanted"]).unwrap();
        assert_eq!(symbols.address("wanted"), Some(0xffff_ffff_8100_0020));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_survived(table: Vec<u8>, capacity in 1usize..64) {
            let reader = BufReader::with_capacity(capacity, &table[..]);
            let symbols = Symbols::read(reader, &["a", "tcp_init_sock"]).unwrap();
            proptest::prop_assert!(symbols.found.len() <= 2);
        }
    }
}
