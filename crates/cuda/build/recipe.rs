//! What makes a compiled kernel what it is? The compiler, the flags, and the text of the file with all it includes.
//!
//! Part of the build script, and of the crate's tests. Source of the flags: CUDA Compiler Driver NVCC, release 13.0.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

/// What release builds hold machine code for. Code of an architecture runs on later ones of the same generation, except `90a`, which is
/// Hopper's own instructions; what is newer than all of these compiles the PTX at start.
const RELEASE: &str = "80+ptx,86,89,90a,100,120";

/// Tests and debug builds are compiled often, for one architecture.
const DEV: &str = "90a+ptx";

/// To see whether the kernels compile, on a machine that runs none: between them these two take every path of the sources, and without
/// the optimiser they take a seventh of the time.
pub(crate) const CHECK: &str = "check";
const CHECK_LIST: &str = "80+ptx,90a";

/// The folder of kernels, relative to the crate: what `#include "..."` is relative to.
pub(crate) const KERNELS: &str = "kernels";

/// A GPU architecture to compile for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    /// `90a` of `sm_90a`.
    pub(crate) architecture: String,
    /// Whether to keep the PTX as well.
    pub(crate) ptx: bool,
}

impl Target {
    /// Reads `dev`, `release`, `check`, or a list of architectures such as `89,90a+ptx`.
    pub(crate) fn parse_list(text: &str) -> Result<Vec<Target>, String> {
        let list = match text {
            "dev" => DEV,
            "release" => RELEASE,
            CHECK => CHECK_LIST,
            list => list,
        };
        list.split(',').map(|item| Target::parse(item.trim())).collect()
    }

    fn parse(text: &str) -> Result<Target, String> {
        let (architecture, ptx) = match text.strip_suffix("+ptx") {
            Some(architecture) => (architecture, true),
            None => (text, false),
        };
        let digits = architecture.trim_end_matches(['a', 'f']);
        let is_number = (2..=3).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
        if !is_number || architecture.len() > digits.len() + 1 {
            return Err(format!(
                "expected dev, release, check or a list of architectures such as 89,90a+ptx, found {text:?}"
            ));
        }
        Ok(Target { architecture: architecture.to_owned(), ptx })
    }

    fn flag(&self) -> String {
        let a = &self.architecture;
        let ptx = if self.ptx { format!(",compute_{a}") } else { String::new() };
        format!("-gencode=arch=compute_{a},code=[sm_{a}{ptx}]")
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sm_{}{}", self.architecture, if self.ptx { "+ptx" } else { "" })
    }
}

/// How kernels are compiled.
pub(crate) struct Recipe {
    /// What `nvcc --version` prints.
    pub(crate) nvcc_version: String,
    /// At least one.
    pub(crate) targets: Vec<Target>,
    /// Whether a profiler may name source lines.
    pub(crate) line_info: bool,
    /// Whether to leave out the optimiser: such kernels are to be compiled, not to be run.
    pub(crate) is_check: bool,
}

impl Recipe {
    /// The compiler's flags for a file of this text. Its own come last, from a first line such as `// nvcc: -fmad=false`.
    pub(crate) fn flags(&self, source: &str) -> Vec<String> {
        // Never --use_fast_math: a division or square root that rounds otherwise is another result.
        let mut flags: Vec<String> =
            ["-fatbin", "-O3", "-std=c++17", "-Xfatbin=-compress-all"].map(str::to_owned).into();
        flags.push(format!("-I{KERNELS}"));
        flags.extend(self.targets.iter().map(Target::flag));
        if self.line_info {
            flags.push("-lineinfo".to_owned());
        }
        if self.is_check {
            flags.push("--Ofast-compile=max".to_owned());
        }
        let own = source.lines().next().and_then(|line| line.strip_prefix("// nvcc:"));
        flags.extend(own.unwrap_or_default().split_whitespace().map(str::to_owned));
        flags
    }

    /// A hash of everything that a file's fat binary depends on; `sources` are all files by path in the folder of kernels.
    pub(crate) fn hash(&self, name: &str, sources: &BTreeMap<String, String>) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.nvcc_version.hash(&mut hasher);
        self.flags(sources.get(name).map_or("", String::as_str)).hash(&mut hasher);
        for name in included(name, sources) {
            (name, &sources[name]).hash(&mut hasher);
        }
        hasher.finish()
    }
}

/// A file and all it includes of the kernels' folder, directly or not.
fn included<'a>(name: &'a str, sources: &'a BTreeMap<String, String>) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    let mut open = vec![name];
    while let Some(name) = open.pop() {
        let Some(text) = sources.get(name) else { continue };
        if found.insert(name) {
            open.extend(includes(text));
        }
    }
    found
}

/// What a text includes in quotation marks.
fn includes(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let rest = line.trim_start().strip_prefix('#')?.trim_start().strip_prefix("include")?;
        rest.trim_start().strip_prefix('"')?.split_once('"').map(|(name, _)| name)
    })
}

/// Refuses an include that the compiler may find beside its file, and [`Recipe::hash`] not.
pub(crate) fn check_includes(sources: &BTreeMap<String, String>) -> Result<(), String> {
    for (file, text) in sources {
        if let Some(name) = includes(text).find(|name| !sources.contains_key(*name)) {
            return Err(format!(
                "{KERNELS}/{file} includes {name:?}: expected a path from {KERNELS}/ to a file there"
            ));
        }
    }
    Ok(())
}

/// The modules, one for each file to compile, and the file of each: a module's name is its file's without folder and extension.
pub(crate) fn modules(sources: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, String> {
    let mut modules = BTreeMap::new();
    for file in sources.keys() {
        let Some(path) = file.strip_suffix(".cu") else { continue };
        let name = path.rsplit('/').next().unwrap_or(path);
        if let Some(other) = modules.insert(name.to_owned(), file.clone()) {
            return Err(format!(
                "{KERNELS}/{other} and {KERNELS}/{file} would be one module: expected two names"
            ));
        }
    }
    Ok(modules)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(targets: &str) -> Recipe {
        let is_check = targets == CHECK;
        let targets = Target::parse_list(targets).unwrap();
        Recipe { nvcc_version: "13.0".to_owned(), targets, line_info: false, is_check }
    }

    #[test]
    fn targets_are_names_or_lists() {
        let listed = |text| -> Vec<String> {
            Target::parse_list(text).unwrap().iter().map(ToString::to_string).collect()
        };
        assert_eq!(listed("dev"), ["sm_90a+ptx"]);
        assert_eq!(listed("check"), ["sm_80+ptx", "sm_90a"]);
        assert_eq!(listed("release"), ["sm_80+ptx", "sm_86", "sm_89", "sm_90a", "sm_100", "sm_120"]);
        assert_eq!(listed("89, 120f"), ["sm_89", "sm_120f"]);
        for wrong in ["", "sm_90", "90aa", "9", "1200", "90a+", "90 --x"] {
            assert!(Target::parse_list(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_file_may_add_flags_on_its_first_line() {
        let flags = recipe("90a+ptx,80").flags("// nvcc: -fmad=false -maxrregcount=64\n// nvcc: -not-this\n");
        assert_eq!(
            flags[5..],
            [
                "-gencode=arch=compute_90a,code=[sm_90a,compute_90a]",
                "-gencode=arch=compute_80,code=[sm_80]",
                "-fmad=false",
                "-maxrregcount=64",
            ]
        );
        assert_eq!(recipe("80").flags("__global__ void f();\n").len(), 6);
        let optimised = |targets| !recipe(targets).flags("").iter().any(|flag| flag.contains("fast-compile"));
        assert!(optimised("80+ptx,90a") && optimised("release") && !optimised("check"));
    }

    fn sources(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|&(name, text)| (name.to_owned(), text.to_owned())).collect()
    }

    #[test]
    fn the_hash_follows_what_a_file_includes_and_nothing_else() {
        let a = ("a/a.cu", "#include <cstdint>\n# include \"b/b.cuh\"\n");
        let b = ("b/b.cuh", "#include \"c.cuh\"\n");
        let before = sources(&[a, b, ("c.cuh", "1"), ("d.cuh", "1")]);
        let hash = |sources| recipe("80").hash("a/a.cu", sources);
        let unrelated = sources(&[a, b, ("c.cuh", "1"), ("d.cuh", "2")]);
        assert_eq!(hash(&before), hash(&unrelated));
        let indirect = sources(&[a, b, ("c.cuh", "2"), ("d.cuh", "1")]);
        assert_ne!(hash(&before), hash(&indirect));
        assert_ne!(hash(&before), recipe("90a").hash("a/a.cu", &before));
        let circle = sources(&[("a.cu", "#include \"a.cu\"\n")]);
        assert_eq!(included("a.cu", &circle).len(), 1);
    }

    #[test]
    fn an_include_that_no_hash_would_follow_is_refused() {
        let b = ("b/b.cuh", "");
        let includes = |text| check_includes(&sources(&[("b/a.cu", text), b]));
        assert_eq!(includes("#include \"b/b.cuh\"\n"), Ok(()));
        assert_eq!(
            includes("#include \"b.cuh\"\n").unwrap_err(),
            "kernels/b/a.cu includes \"b.cuh\": expected a path from kernels/ to a file there"
        );
    }

    #[test]
    fn modules_are_files_by_name_and_no_two_have_one() {
        let found = modules(&sources(&[("a/b.cu", ""), ("a/b.cuh", ""), ("c.cu", "")])).unwrap();
        assert_eq!(
            found.into_iter().collect::<Vec<_>>(),
            [("b", "a/b.cu"), ("c", "c.cu")].map(|(name, file)| (name.to_owned(), file.to_owned()))
        );
        let twice = modules(&sources(&[("a/b.cu", ""), ("c/b.cu", "")])).unwrap_err();
        assert_eq!(twice, "kernels/a/b.cu and kernels/c/b.cu would be one module: expected two names");
    }
}
