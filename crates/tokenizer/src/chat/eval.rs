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
use super::value::{Key, Kind, Map, Value};
use crate::stop::Stop;

/// What a statement does to the loop around it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    On,
    Break,
    Continue,
}

/// Variables, and where to look for others. Shared, since a macro sees those around its declaration.
#[derive(Debug, Default)]
pub(super) struct Scope {
    variables: RefCell<HashMap<String, Value>>,
    parent: Option<Rc<Scope>>,
}

impl Scope {
    pub(super) fn within(parent: &Rc<Scope>) -> Rc<Scope> {
        Rc::new(Scope { variables: RefCell::default(), parent: Some(Rc::clone(parent)) })
    }
}

/// A loop that is running.
pub(super) struct LoopState<'t, 's> {
    /// No two loops of a rendering have the same.
    pub(super) number: usize,
    pub(super) items: Vec<Value>,
    pub(super) index: usize,
    pub(super) depth: usize,
    pub(super) last_changed: Option<Vec<Value>>,
    statement: &'t ForLoop<'s>,
    scope: Rc<Scope>,
}

/// A macro and the variables around its declaration.
pub(super) struct Declared<'t, 's> {
    pub(super) declaration: &'t Macro<'s>,
    pub(super) scope: Rc<Scope>,
}

/// A rendering under way.
pub(super) struct Renderer<'t, 's> {
    pub(super) budget: Budget<'t>,
    pub(super) macros: Vec<Declared<'t, 's>>,
    pub(super) loops: Vec<LoopState<'t, 's>>,
    /// Seconds since 1970.
    pub(super) now: i64,
    pub(super) scope: Rc<Scope>,
    loops_begun: usize,
    /// What is being written: the output, and the blocks captured within it.
    outputs: Vec<String>,
}

impl<'t, 's> Renderer<'t, 's> {
    pub(super) fn new(globals: HashMap<String, Value>, now: i64, stop: Stop<'t>) -> Renderer<'t, 's> {
        Renderer {
            budget: Budget::new(stop),
            macros: Vec::new(),
            loops: Vec::new(),
            now,
            scope: Rc::new(Scope { variables: RefCell::new(globals), parent: None }),
            loops_begun: 0,
            outputs: vec![String::new()],
        }
    }

    /// Renders a whole template.
    pub(super) fn template(mut self, root: &'t Stmt<'s>) -> Result<String> {
        self.run(root)?;
        Ok(self.outputs.pop().unwrap_or_default())
    }

    pub(super) fn run(&mut self, root: &'t Stmt<'s>) -> Result<()> {
        if let Stmt::Template(template) = root {
            self.block(&template.children)?;
        }
        Ok(())
    }

    pub(super) fn lookup(&mut self, name: &str) -> Result<Option<Value>> {
        let mut scope = Some(&self.scope);
        let mut visited = 0;
        let mut found = None;
        while let Some(here) = scope {
            visited += 1;
            found = here.variables.borrow().get(name).cloned();
            if found.is_some() {
                break;
            }
            scope = here.parent.as_ref();
        }
        // A name is hashed in every scope.
        self.budget.step(visited * (1 + name.len() / 16) / 4)?;
        Ok(found)
    }

    pub(super) fn set(&mut self, name: &str, value: Value) -> Result<()> {
        self.budget.take(name.len() + 64)?;
        self.scope.variables.borrow_mut().insert(name.to_owned(), value);
        Ok(())
    }

    fn emit(&mut self, text: &str) -> Result<()> {
        self.budget.write(text.len())?;
        if let Some(out) = self.outputs.last_mut() {
            out.push_str(text);
        }
        Ok(())
    }

    fn emit_value(&mut self, value: &Value) -> Result<()> {
        if let Some(text) = value.as_str() {
            return self.emit(text);
        }
        let text = self.budget.text_of(value)?;
        self.emit(&text)
    }

    /// What a block makes, which has to be text.
    fn emit_text(&mut self, value: &Value) -> Result<()> {
        match value.as_str() {
            Some(text) => self.emit(text),
            None => self.budget.fail(format!("a block makes text, not {}", value.kind())),
        }
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

    /// Something done in a scope.
    pub(super) fn within<T>(
        &mut self,
        scope: Rc<Scope>,
        action: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        let outer = std::mem::replace(&mut self.scope, scope);
        let result = action(self);
        self.scope = outer;
        result
    }

    /// A block in a scope of its own.
    fn scoped(&mut self, statements: &'t [Stmt<'s>]) -> Result<Flow> {
        let scope = Scope::within(&self.scope);
        self.within(scope, |this| this.block(statements))
    }

    /// What an action writes.
    pub(super) fn captured(&mut self, action: impl FnOnce(&mut Self) -> Result<Flow>) -> Result<String> {
        self.outputs.push(String::new());
        let flow = action(self);
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
                self.emit_value(&value)?;
            }
            Stmt::IfCond(cond) => {
                self.budget.line = usize::from(cond.span().start_line);
                let test = self.eval(&cond.expr)?.truth();
                return self.block(if test { &cond.true_body } else { &cond.false_body });
            }
            Stmt::ForLoop(for_loop) => {
                self.budget.line = usize::from(for_loop.span().start_line);
                let iterable = self.eval(&for_loop.iter)?;
                self.run_loop(for_loop, &iterable, 0)?;
            }
            Stmt::Set(set) => {
                self.budget.line = usize::from(set.span().start_line);
                let value = self.eval(&set.expr)?;
                self.assign(&set.target, value)?;
            }
            Stmt::SetBlock(set) => {
                self.budget.line = usize::from(set.span().start_line);
                let text = self.captured(|this| this.scoped(&set.body))?;
                let value = self.filtered(set.filter.as_ref(), &text)?;
                self.assign(&set.target, value)?;
            }
            Stmt::FilterBlock(block) => {
                self.budget.line = usize::from(block.span().start_line);
                let text = self.captured(|this| this.scoped(&block.body))?;
                let value = self.filtered(Some(&block.filter), &text)?;
                self.emit_text(&value)?;
            }
            Stmt::WithBlock(with) => {
                self.budget.line = usize::from(with.span().start_line);
                let mut values = Vec::with_capacity(with.assignments.len());
                for (target, expr) in &with.assignments {
                    values.push((target, self.eval(expr)?));
                }
                let scope = Scope::within(&self.scope);
                return self.within(scope, |this| {
                    for (target, value) in values {
                        this.assign(target, value)?;
                    }
                    this.block(&with.body)
                });
            }
            Stmt::AutoEscape(block) => {
                self.budget.line = usize::from(block.span().start_line);
                if self.eval(&block.enabled)?.truth() {
                    return self.budget.fail("autoescape is not supported");
                }
                return self.scoped(&block.body);
            }
            Stmt::Macro(declaration) => {
                let value = self.declare(declaration)?;
                self.set(declaration.name, value)?;
            }
            Stmt::Do(call) => {
                self.budget.line = usize::from(call.span().start_line);
                self.call(&call.call, None)?;
            }
            Stmt::Continue(_) => return Ok(Flow::Continue),
            Stmt::Break(_) => return Ok(Flow::Break),
            Stmt::CallBlock(call) => {
                self.budget.line = usize::from(call.span().start_line);
                let caller = self.declare(&call.macro_decl)?;
                let value = self.call(&call.call, Some(caller))?;
                self.emit_text(&value)?;
            }
        }
        Ok(Flow::On)
    }

    fn declare(&mut self, declaration: &'t Macro<'s>) -> Result<Value> {
        self.budget.take(size_of::<Declared<'_, '_>>())?;
        self.macros.push(Declared { declaration, scope: Rc::clone(&self.scope) });
        Ok(Value::Macro(self.macros.len() - 1))
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
                    namespace.borrow_mut().insert(Key::from(attr.name), value);
                    Ok(())
                }
                Value::Namespace(_) => {
                    self.budget.fail(format!("{} cannot be part of another value", value.kind()))
                }
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

    /// A loop over a value; `depth` is above 0 where a recursive loop calls itself.
    fn run_loop(&mut self, for_loop: &'t ForLoop<'s>, iterable: &Value, depth: usize) -> Result<()> {
        let mut items = self.iterate(iterable)?;
        if let Some(filter) = &for_loop.filter_expr {
            let mut kept = Vec::new();
            for item in items {
                self.budget.step(1)?;
                let scope = Scope::within(&self.scope);
                let keep = self.within(scope, |this| {
                    this.assign(&for_loop.target, item.clone())?;
                    Ok(this.eval(filter)?.truth())
                })?;
                if keep {
                    kept.push(item);
                }
            }
            items = kept;
        }
        if items.is_empty() {
            return self.scoped(&for_loop.else_body).map(drop);
        }
        let (count, place) = (items.len(), self.loops.len());
        self.loops_begun += 1;
        let number = self.loops_begun;
        let scope = Rc::clone(&self.scope);
        let statement = for_loop;
        self.loops.push(LoopState { number, items, index: 0, depth, last_changed: None, statement, scope });
        for index in 0..count {
            self.budget.step(1)?;
            let Some(state) = self.loops.get_mut(place) else { break };
            state.index = index;
            let Some(item) = state.items.get(index).cloned() else { break };
            let scope = Scope::within(&self.scope);
            let flow = self.within(scope, |this| {
                this.set("loop", Value::Loop(number))?;
                this.assign(&for_loop.target, item)?;
                this.block(&for_loop.body)
            })?;
            if flow == Flow::Break {
                self.left_half_way(for_loop, iterable, index, count)?;
                break;
            }
        }
        self.loops.truncate(place);
        Ok(())
    }

    /// How far a loop that was left took an iterator. Where its body names `loop`, Jinja has looked ahead as far as its attributes
    /// made it; where it filters, as far as the next item that fits.
    fn left_half_way(
        &mut self,
        for_loop: &'t ForLoop<'s>,
        iterable: &Value,
        index: usize,
        count: usize,
    ) -> Result<()> {
        let Value::List(list) = iterable else { return Ok(()) };
        if list.kind != Kind::Iterator {
            return Ok(());
        }
        let (names, nodes) = super::uses::all_variables_of(&for_loop.body);
        self.budget.step(nodes)?;
        let is_plain = for_loop.filter_expr.is_none() && !for_loop.recursive && !names.contains("loop");
        let begun_at = list.items.len().checked_sub(count);
        list.taken.set(begun_at.filter(|_| is_plain).map(|at| at + index + 1));
        Ok(())
    }

    /// `loop(value)`: what a recursive loop writes for another value.
    pub(super) fn recurse(&mut self, number: usize, value: &Value) -> Result<Value> {
        let Some(state) = self.loops.iter().rev().find(|state| state.number == number) else {
            return self.budget.fail("the loop is over");
        };
        let (statement, scope, depth) = (state.statement, Rc::clone(&state.scope), state.depth + 1);
        if !statement.recursive {
            return self.budget.fail("the loop is not recursive");
        }
        self.budget.enter()?;
        let text = self.captured(|this| {
            this.within(scope, |this| this.run_loop(statement, value, depth))?;
            Ok(Flow::On)
        })?;
        self.budget.leave();
        self.budget.string(&text)
    }

    /// What a macro's body writes, in a scope that has its arguments.
    pub(super) fn macro_body(&mut self, declaration: &'t Macro<'s>, scope: Rc<Scope>) -> Result<Value> {
        let text = self.captured(|this| this.within(scope, |this| this.block(&declaration.body)))?;
        self.budget.string(&text)
    }

    /// The items that a loop over a value visits.
    pub(super) fn iterate(&mut self, value: &Value) -> Result<Vec<Value>> {
        let items: Vec<Value> = match value {
            Value::Undefined => Vec::new(),
            Value::List(list) => {
                self.budget.take(list.items.len() * size_of::<Value>())?;
                let Some(taken) = list.taken.get() else {
                    return self.budget.fail("an iterator is used again that was left half-way");
                };
                if list.kind == Kind::Iterator {
                    list.taken.set(Some(list.items.len()));
                }
                list.items.get(taken..).unwrap_or_default().to_vec()
            }
            Value::Map(map) => self.keys_of(map)?,
            Value::Str(text) | Value::Markup(text) => {
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
