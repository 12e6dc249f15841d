//! Kernel modules a guest needs, in the order to load them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use object::{Object as _, ObjectSection as _};

/// A module, decompressed, ready for `finit_module`.
pub struct Module {
    /// Name with underscores.
    pub name: String,
    /// ELF file, signature included.
    pub content: Vec<u8>,
}

/// These modules and what they depend on, dependencies first. A module that this kernel does not have
/// (it may be built in) is left out and returned by name.
pub fn load_order(dir: &Path, wanted: &[&str]) -> Result<(Vec<Module>, Vec<String>)> {
    let mut index = BTreeMap::new();
    index_tree(&dir.join("kernel"), &mut index)?;
    let mut order = Order {
        index,
        seen: BTreeSet::new(),
        modules: Vec::new(),
        missing: Vec::new(),
    };
    for name in wanted {
        order.visit(name)?;
    }
    Ok((order.modules, order.missing))
}

struct Order {
    index: BTreeMap<String, PathBuf>,
    seen: BTreeSet<String>,
    modules: Vec<Module>,
    missing: Vec<String>,
}

impl Order {
    fn visit(&mut self, name: &str) -> Result<()> {
        let name = name.replace('-', "_");
        if !self.seen.insert(name.clone()) {
            return Ok(());
        }
        let Some(path) = self.index.get(&name).cloned() else {
            self.missing.push(name);
            return Ok(());
        };
        let content = read_module(&path)?;
        for dependency in
            dependencies(&content).with_context(|| format!("could not read {}", path.display()))?
        {
            self.visit(&dependency)?;
        }
        self.modules.push(Module { name, content });
        Ok(())
    }
}

fn index_tree(dir: &Path, index: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("could not read {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            index_tree(&path, index)?;
        } else if let Some(file) = path.file_name().and_then(|name| name.to_str())
            && let Some((name, _)) = file.split_once(".ko")
        {
            index.insert(name.replace('-', "_"), path);
        }
    }
    Ok(())
}

fn read_module(path: &Path) -> Result<Vec<u8>> {
    let bytes = fs::read(path).with_context(|| format!("could not read {}", path.display()))?;
    match path.extension().and_then(|ext| ext.to_str()) {
        Some("ko") => Ok(bytes),
        Some("xz") => {
            let mut content = Vec::new();
            lzma_rust2::XzReader::new(bytes.as_slice(), false)
                .read_to_end(&mut content)
                .with_context(|| format!("could not decompress {}", path.display()))?;
            Ok(content)
        }
        _ => bail!(
            "{} is compressed in a way xtask cannot read",
            path.display()
        ),
    }
}

/// The `depends=` line of a module's `.modinfo`.
fn dependencies(module: &[u8]) -> Result<Vec<String>> {
    let file = object::read::elf::ElfFile64::<object::Endianness>::parse(module)?;
    let modinfo = file
        .section_by_name(".modinfo")
        .context("no .modinfo section")?;
    let names = modinfo
        .data()?
        .split(|byte| *byte == 0)
        .find_map(|line| line.strip_prefix(b"depends="))
        .unwrap_or_default();
    Ok(String::from_utf8_lossy(names)
        .split(',')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect())
}
