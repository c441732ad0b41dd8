//! What does a template write? Jinja's statements, over the syntax tree that minijinja parses.
//!
//! The meaning is that of Jinja 2's ImmutableSandboxedEnvironment with Python values, which transformers uses: loops and macros
//! have scopes of their own, an undefined value is empty text, and nothing can be changed but a namespace. There is no way to a
//! file, to the environment, or to another template.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use minijinja::machinery::ast::{Expr, ForLoop, Macro, Stmt};

use super::budget::{Budget, Result};
use super::expr::Args;
use super::value::{Map, Value};

/// What a statement does to the loop around it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    On,
    Break,
    Continue,
}

/// A loop that is running.
#[derive(Debug)]
pub(super) struct LoopState {
    pub(super) items: Vec<Value>,
    pub(super) index: usize,
    pub(super) depth: usize,
    pub(super) last_changed: Option<Vec<Value>>,
}

/// A rendering under way.
pub(super) struct Renderer<'t, 's> {
    pub(super) budget: Budget,
    pub(super) macros: Vec<&'t Macro<'s>>,
    pub(super) loops: Vec<LoopState>,
    /// Seconds since 1970.
    pub(super) now: i64,
    scopes: Vec<HashMap<String, Value>>,
    /// What is being written: the output, and the blocks captured within it.
    outputs: Vec<String>,
}

impl<'t, 's> Renderer<'t, 's> {
    pub(super) fn new(globals: HashMap<String, Value>, now: i64) -> Renderer<'t, 's> {
        Renderer {
            budget: Budget::default(),
            macros: Vec::new(),
            loops: Vec::new(),
            now,
            scopes: vec![globals],
            outputs: vec![String::new()],
        }
    }

    /// Renders a whole template.
    pub(super) fn template(mut self, root: &'t Stmt<'s>) -> Result<String> {
        if let Stmt::Template(template) = root {
            self.block(&template.children)?;
        }
        Ok(self.outputs.pop().unwrap_or_default())
    }

    pub(super) fn lookup(&self, name: &str) -> Option<Value> {
        self.scopes.iter().rev().find_map(|scope| scope.get(name)).cloned()
    }

    fn set(&mut self, name: &str, value: Value) -> Result<()> {
        self.budget.take(name.len() + 64)?;
        if let Some(scope) = self.scopes.last_mut() {
            scope.insert(name.to_owned(), value);
        }
        Ok(())
    }

    fn emit(&mut self, text: &str) -> Result<()> {
        self.budget.write(text.len())?;
        if let Some(out) = self.outputs.last_mut() {
            out.push_str(text);
        }
        Ok(())
    }

    fn block(&mut self, statements: &'t [Stmt<'s>]) -> Result<Flow> {
        self.budget.enter()?;
        for statement in statements {
            let flow = self.statement(statement)?;
            if flow != Flow::On {
                self.budget.leave();
                return Ok(flow);
            }
        }
        self.budget.leave();
        Ok(Flow::On)
    }

    /// A block in a scope of its own.
    fn scoped(&mut self, statements: &'t [Stmt<'s>]) -> Result<Flow> {
        self.scopes.push(HashMap::new());
        let flow = self.block(statements);
        self.scopes.pop();
        flow
    }

    /// What a block writes.
    fn captured(&mut self, statements: &'t [Stmt<'s>]) -> Result<String> {
        self.outputs.push(String::new());
        let flow = self.block(statements);
        let text = self.outputs.pop().unwrap_or_default();
        flow?;
        self.budget.take(text.len())?;
        Ok(text)
    }

    fn statement(&mut self, statement: &'t Stmt<'s>) -> Result<Flow> {
        self.budget.step(1)?;
        match statement {
            Stmt::Template(template) => return self.block(&template.children),
            Stmt::EmitRaw(raw) => self.emit(raw.raw)?,
            Stmt::EmitExpr(emit) => {
                self.budget.line = usize::from(emit.span().start_line);
                let value = self.eval(&emit.expr)?;
                match &value {
                    Value::Str(text) => self.emit(text)?,
                    other => {
                        let text = self.budget.text_of(other)?;
                        self.emit(&text)?;
                    }
                }
            }
            Stmt::IfCond(cond) => {
                self.budget.line = usize::from(cond.span().start_line);
                let test = self.eval(&cond.expr)?.truth();
                return self.block(if test { &cond.true_body } else { &cond.false_body });
            }
            Stmt::ForLoop(for_loop) => {
                self.budget.line = usize::from(for_loop.span().start_line);
                return self.for_loop(for_loop);
            }
            Stmt::Set(set) => {
                self.budget.line = usize::from(set.span().start_line);
                let value = self.eval(&set.expr)?;
                self.assign(&set.target, value)?;
            }
            Stmt::SetBlock(set) => {
                let text = self.captured(&set.body)?;
                let value = self.filtered(set.filter.as_ref(), &text)?;
                self.assign(&set.target, value)?;
            }
            Stmt::FilterBlock(block) => {
                let text = self.captured(&block.body)?;
                let value = self.filtered(Some(&block.filter), &text)?;
                let text = self.budget.text_of(&value)?;
                self.emit(&text)?;
            }
            Stmt::WithBlock(with) => {
                let mut scope = Vec::with_capacity(with.assignments.len());
                for (target, expr) in &with.assignments {
                    scope.push((target, self.eval(expr)?));
                }
                self.scopes.push(HashMap::new());
                for (target, value) in scope {
                    self.assign(target, value)?;
                }
                let flow = self.block(&with.body);
                self.scopes.pop();
                return flow;
            }
            Stmt::AutoEscape(block) => return self.block(&block.body),
            Stmt::Macro(declaration) => {
                self.budget.take(size_of::<usize>())?;
                self.macros.push(declaration);
                self.set(declaration.name, Value::Macro(self.macros.len() - 1))?;
            }
            Stmt::Do(call) => {
                self.budget.line = usize::from(call.span().start_line);
                self.call(&call.call)?;
            }
            Stmt::Continue(_) => return Ok(Flow::Continue),
            Stmt::Break(_) => return Ok(Flow::Break),
            Stmt::CallBlock(call) => {
                self.budget.line = usize::from(call.span().start_line);
                return self.budget.fail("{% call %} is not supported");
            }
        }
        Ok(Flow::On)
    }

    fn filtered(&mut self, filter: Option<&'t Expr<'s>>, text: &str) -> Result<Value> {
        let value = self.budget.string(text)?;
        match filter {
            Some(filter) => self.filter_chain(filter, value),
            None => Ok(value),
        }
    }

    fn assign(&mut self, target: &'t Expr<'s>, value: Value) -> Result<()> {
        match target {
            Expr::Var(var) => self.set(var.id, value),
            Expr::GetAttr(attr) => match self.eval(&attr.expr)? {
                Value::Namespace(namespace) if value.is_plain() => {
                    self.budget.take(attr.name.len() + 96)?;
                    namespace.borrow_mut().insert(attr.name.into(), value);
                    Ok(())
                }
                Value::Namespace(_) => self.budget.fail("a namespace cannot be part of another value"),
                other => self.budget.fail(format!("cannot assign to an attribute of {}", other.kind())),
            },
            Expr::Tuple(targets) => self.unpack(&targets.items, &value),
            Expr::List(targets) => self.unpack(&targets.items, &value),
            _ => self.budget.fail("cannot assign to this expression"),
        }
    }

    fn unpack(&mut self, targets: &'t [Expr<'s>], value: &Value) -> Result<()> {
        let items = self.iterate(value)?;
        if items.len() != targets.len() {
            return self.budget.fail(format!("cannot unpack {} values into {}", items.len(), targets.len()));
        }
        for (target, item) in targets.iter().zip(items) {
            self.assign(target, item)?;
        }
        Ok(())
    }

    fn for_loop(&mut self, for_loop: &'t ForLoop<'s>) -> Result<Flow> {
        if for_loop.recursive {
            return self.budget.fail("recursive loops are not supported");
        }
        let iterable = self.eval(&for_loop.iter)?;
        let mut items = self.iterate(&iterable)?;
        if let Some(filter) = &for_loop.filter_expr {
            let mut kept = Vec::new();
            for item in items {
                self.budget.step(1)?;
                self.scopes.push(HashMap::new());
                self.assign(&for_loop.target, item.clone())?;
                let keep = self.eval(filter)?.truth();
                self.scopes.pop();
                if keep {
                    kept.push(item);
                }
            }
            items = kept;
        }
        if items.is_empty() {
            return self.scoped(&for_loop.else_body);
        }
        let depth = self.loops.len();
        let count = items.len();
        self.loops.push(LoopState { items, index: 0, depth, last_changed: None });
        for index in 0..count {
            self.budget.step(1)?;
            let Some(state) = self.loops.get_mut(depth) else { break };
            state.index = index;
            let Some(item) = state.items.get(index).cloned() else { break };
            self.scopes.push(HashMap::from([("loop".to_owned(), Value::Loop(depth))]));
            self.assign(&for_loop.target, item)?;
            let flow = self.block(&for_loop.body)?;
            self.scopes.pop();
            if flow == Flow::Break {
                break;
            }
        }
        self.loops.truncate(depth);
        Ok(Flow::On)
    }

    /// Calls a macro: it sees its arguments and the template's own variables.
    pub(super) fn call_macro(&mut self, number: usize, args: &Args) -> Result<Value> {
        let Some(&declaration) = self.macros.get(number) else { return Ok(Value::Undefined) };
        self.budget.enter()?;
        let n_params = declaration.args.len();
        if args.positional.len() > n_params {
            return self.budget.fail(format!("macro {} takes {n_params} arguments", declaration.name));
        }
        let inner = self.scopes.split_off(1.min(self.scopes.len()));
        let loops = std::mem::take(&mut self.loops);
        self.scopes.push(HashMap::new());
        let without_default = n_params - declaration.defaults.len().min(n_params);
        let mut positional = args.positional.iter().cloned();
        for (i, param) in declaration.args.iter().enumerate() {
            let Expr::Var(var) = param else { continue };
            let named = args.named.iter().find(|(name, _)| name == var.id).map(|(_, value)| value.clone());
            let value = match (positional.next(), named) {
                (Some(value), _) | (None, Some(value)) => value,
                (None, None) => {
                    match i.checked_sub(without_default).and_then(|i| declaration.defaults.get(i)) {
                        Some(default) => self.eval(default)?,
                        None => Value::Undefined,
                    }
                }
            };
            self.set(var.id, value)?;
        }
        let text = self.captured(&declaration.body);
        self.scopes.truncate(1);
        self.scopes.extend(inner);
        self.loops = loops;
        self.budget.leave();
        let text = text?;
        self.budget.string(&text)
    }

    /// The items that a loop over a value visits.
    pub(super) fn iterate(&mut self, value: &Value) -> Result<Vec<Value>> {
        let items: Vec<Value> = match value {
            Value::Undefined => Vec::new(),
            Value::List(list) => {
                self.budget.take(list.items.len() * size_of::<Value>())?;
                list.items.clone()
            }
            Value::Map(map) => {
                self.budget.take(map.entries.len() * size_of::<Value>())?;
                map.entries.keys().map(|key| Value::Str(Rc::clone(key))).collect()
            }
            Value::Str(text) => {
                self.budget.take(text.len().saturating_mul(size_of::<Value>() + 24))?;
                let mut buffer = [0; 4];
                text.chars().map(|c| Value::str(c.encode_utf8(&mut buffer))).collect()
            }
            other => return self.budget.fail(format!("cannot loop over {}", other.kind())),
        };
        Ok(items)
    }

    /// A namespace of these variables.
    pub(super) fn namespace(&mut self, entries: Map) -> Result<Value> {
        let Value::Map(map) = self.budget.admit(Value::map(entries))? else { return Ok(Value::Undefined) };
        let entries = Rc::try_unwrap(map).map(|map| map.entries).unwrap_or_default();
        Ok(Value::Namespace(Rc::new(RefCell::new(entries))))
    }
}
