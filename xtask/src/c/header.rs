//! What `include/dubcore.h` declares: the list that tests of every function go by.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

/// A function.
pub(super) struct Function {
    pub(super) name: String,
    pub(super) returns: String,
    pub(super) params: Vec<Param>,
    /// Its text, in one line.
    pub(super) doc: String,
}

/// An argument.
#[derive(Clone)]
pub(super) struct Param {
    /// Without its name: `const char *`.
    pub(super) kind: String,
    pub(super) name: String,
}

/// A header.
pub(super) struct Header {
    pub(super) functions: Vec<Function>,
    /// Names of the types that are handles.
    pub(super) handles: Vec<String>,
    /// All that a program is compiled against, one line each, without texts.
    pub(super) declarations: Vec<String>,
}

impl Function {
    fn says(&self, param: &Param, what: &str) -> bool {
        self.doc.contains(&format!("`{}` may be {what}", param.name))
    }

    pub(super) fn may_be_null(&self, param: &Param) -> bool {
        self.says(param, "NULL") && !self.null_if_empty(param)
    }

    /// Whether NULL is good where there are no values.
    pub(super) fn null_if_empty(&self, param: &Param) -> bool {
        self.says(param, "NULL where `count` is 0")
    }

    pub(super) fn may_be_none(&self, param: &Param) -> bool {
        self.says(param, "none")
    }
}

impl Param {
    /// Whether it is a pointer that C may get wrong: not the caller's own data, nor the details of an error.
    pub(super) fn is_pointer(&self) -> bool {
        (self.kind.ends_with('*') && !["void *", "dub_error *", "const dub_error *"].contains(&self.kind.as_str()))
            || self.kind.ends_with("_fn")
    }

    /// Whether a result goes there.
    pub(super) fn is_place(&self) -> bool {
        self.is_pointer()
            && self.kind.ends_with('*')
            && !(self.kind.starts_with("const ") && self.kind.matches('*').count() == 1)
            && self.kind != "const char *const *"
    }

    /// What lies where a result goes.
    pub(super) fn pointee(&self) -> &str {
        self.kind.strip_suffix('*').unwrap_or(&self.kind).trim_end()
    }
}

/// Reads a header as cbindgen writes it.
pub(super) fn parse(text: &str) -> Result<Header> {
    let (docs, code) = split(text);
    let mut header = Header { functions: Vec::new(), handles: Vec::new(), declarations: Vec::new() };
    for (at, declaration) in &code {
        header.declarations.push(declaration.clone());
        if let Some(rest) = declaration.strip_prefix("typedef struct { uint32_t slot; uint32_t generation; uint32_t kind; } ") {
            header.handles.push(rest.trim_end_matches(';').into());
        }
        let Some((before, after)) = declaration.split_once('(') else { continue };
        let name = before.rsplit([' ', '*']).next().unwrap_or_default();
        if declaration.starts_with("typedef") || !name.starts_with("dub_") {
            continue;
        }
        let list = after.strip_suffix(");").with_context(|| format!("{declaration} does not end as a function does"))?;
        let params = list.split(", ").filter(|p| *p != "void").map(param).collect();
        let returns = before[..before.len() - name.len()].trim().to_owned();
        header.functions.push(Function { name: name.into(), returns, params, doc: docs.get(at).cloned().unwrap_or_default() });
    }
    ensure!(!header.functions.is_empty() && !header.handles.is_empty(), "the header declares nothing");
    Ok(header)
}

fn param(text: &str) -> Param {
    let at = text.rfind([' ', '*']).map_or(0, |i| i + 1);
    Param { kind: text[..at].trim_end().into(), name: text[at..].into() }
}

/// Texts by the declaration that they stand before, and the declarations in order.
fn split(text: &str) -> (BTreeMap<usize, String>, Vec<(usize, String)>) {
    let (mut docs, mut code): (BTreeMap<usize, String>, Vec<(usize, String)>) = Default::default();
    let (mut doc, mut inside, mut open) = (String::new(), false, String::new());
    for line in text.lines().map(str::trim) {
        if inside || line.starts_with("/*") {
            if !inside {
                doc.clear();
            }
            inside = !line.ends_with("*/");
            let said = line.trim_start_matches(['/', '*']).trim_end_matches(['/', '*']).trim();
            if !said.is_empty() {
                doc += if doc.is_empty() { "" } else { " " };
                doc += said;
            }
            continue;
        }
        let plain = line.is_empty() || line.starts_with('#') || line.starts_with("extern \"C\"") || line.starts_with("}  //");
        if plain && open.is_empty() {
            // The version of the library changes with each release, and breaks nothing.
            if line.starts_with("#define DUB_ABI_VERSION ") {
                code.push((code.len(), line.into()));
            }
            continue;
        }
        if open.is_empty() {
            docs.insert(code.len(), doc.clone());
        }
        open += if open.is_empty() { "" } else { " " };
        open += line;
        if open.matches('{').count() == open.matches('}').count() && line.ends_with(';') {
            code.push((code.len(), std::mem::take(&mut open)));
        }
    }
    (docs, code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declarations_are_read() {
        let text = r#"
/* About. */
#define DUB_ABI_VERSION 7
/**
 * A job.
 */
typedef struct {
  /**
   * Where.
   */
  uint32_t slot;
  uint32_t generation;
  uint32_t kind;
} dub_job;
#ifdef __cplusplus
extern "C" {
#endif // __cplusplus
/**
 * Does it. `job` may
 * be none. `texts` may be NULL where `count` is 0.
 */
dub_status dub_do(dub_job job, const char *const *texts, size_t count,
                  const char **said,
                  dub_error *error);
uint32_t dub_abi_version(void);
"#;
        let header = parse(text).unwrap();
        assert_eq!(header.handles, ["dub_job"]);
        assert_eq!(header.declarations.len(), 4);
        let [does, version] = &header.functions[..] else { panic!("two functions") };
        assert_eq!((does.name.as_str(), does.returns.as_str(), version.params.len()), ("dub_do", "dub_status", 0));
        let [job, texts, _, said, error] = &does.params[..] else { panic!("five arguments") };
        assert!(does.may_be_none(job) && does.null_if_empty(texts) && !does.may_be_null(texts));
        assert_eq!((said.kind.as_str(), said.pointee(), said.is_place()), ("const char **", "const char *", true));
        assert!(texts.is_pointer() && !texts.is_place() && !error.is_pointer());
    }
}
