//! The one engine that all plugins run on, and its compiler.

use super::{clock::Clock, config::PluginsConfig};
use anyhow::{Context, Result};
use std::sync::Arc;
use tokio::runtime::{self, Runtime};
use tokio_util::task::AbortOnDropHandle;
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

/// How much of a used memory is kept instead of given back to the system between two instances.
const KEEP_RESIDENT: usize = 2 << 20;

/// Memory of a guest's stack, which is the host's memory, apart from its linear memory.
const WASM_STACK: usize = 512 << 10;

/// The stack that a call runs on: the guest's, and room for the host functions that it calls.
const CALL_STACK: usize = 1 << 20;

/// The niceness of threads that compile, for which nobody waits.
const COMPILES: i32 = 15;

/// The niceness of threads for long calls: they give way at once to those of the sockets, and have
/// about a quarter of a core that something else keeps busy.
const CALLS: i32 = 5;

/// Returns the engine, and its clock for as long as the engine lives.
///
/// # Errors
/// When this machine cannot run it, such as for lack of address space.
pub(super) fn engine(config: &PluginsConfig) -> Result<(Engine, Clock)> {
    let mut pool = PoolingAllocationConfig::default();
    let instances = config.max_instances;
    // Components made from other languages have several core instances, memories and tables each.
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(4))
        .total_memories(instances.saturating_mul(2))
        .total_tables(instances.saturating_mul(4))
        .total_stacks(instances)
        .max_core_instances_per_component(64)
        .max_memories_per_component(16)
        .max_tables_per_component(64)
        .table_elements(config.max_table_elements)
        .max_component_instance_size(1 << 20)
        .max_core_instance_size(1 << 20)
        .max_memory_size(config.memory_bytes())
        .linear_memory_keep_resident(KEEP_RESIDENT)
        .table_keep_resident(64 << 10)
        .async_stack_keep_resident(64 << 10)
        .max_unused_warm_slots(instances)
        // Linux 6.7 and later tell cheaply which pages a guest has touched.
        .pagemap_scan(Enabled::Auto);
    let mut settings = Config::new();
    settings
        .epoch_interruption(true)
        .concurrency_support(false)
        .generate_address_map(false)
        .native_unwind_info(false)
        .max_wasm_stack(WASM_STACK)
        .async_stack_size(CALL_STACK)
        .wasm_backtrace_max_frames(std::num::NonZeroUsize::new(16))
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    let engine = Engine::new(&settings)
        .map_err(anyhow::Error::from)
        .context("the WebAssembly engine could not be started")?;
    let ticking = engine.weak();
    let clock = Clock::start(move |ticks| match ticking.upgrade() {
        Some(engine) => {
            if ticks {
                engine.increment_epoch();
            }
            true
        }
        None => false,
    })?;
    Ok((engine, clock))
}

/// Threads of low priority that compile, so that serving does not suffer.
#[derive(Clone)]
pub(super) struct Compiler(Arc<rayon::ThreadPool>);

impl Compiler {
    /// Starts the threads: as many as there are cores, but at most four.
    ///
    /// # Errors
    /// When they cannot be started.
    pub(super) fn start() -> Result<Self> {
        let threads = std::thread::available_parallelism()
            .map_or(1, usize::from)
            .min(4);
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|number| format!("compiler {number}"))
            .start_handler(|_| lower_priority(COMPILES))
            .build()
            .context("the compiler's threads could not be started")?;
        Ok(Self(Arc::new(pool)))
    }

    /// Runs a job on these threads and returns what it returns. Blocks.
    pub(super) fn run<T: Send>(&self, job: impl FnOnce() -> T + Send) -> T {
        self.0.install(job)
    }
}

/// Threads of low priority on which calls go on that take long. A guest that computes without end
/// keeps its core busy, and the system gives that up late to a thread of equal rank that wakes: those
/// with little to do would wait for it.
pub(super) struct LongCalls {
    runtime: Option<Runtime>,
    /// What makes them give way, wherever they run.
    pub(super) clock: Clock,
}

impl LongCalls {
    /// Starts the threads: one for each core.
    ///
    /// # Errors
    /// When they cannot be started.
    pub(super) fn start(clock: Clock) -> Result<Self> {
        let runtime = runtime::Builder::new_multi_thread()
            .thread_name("long calls")
            .on_thread_start(|| lower_priority(CALLS))
            .global_queue_interval(1)
            .enable_all()
            .build()
            .context("the threads for long calls could not be started")?;
        Ok(Self {
            runtime: Some(runtime),
            clock,
        })
    }

    /// Goes on with a call, until it ends or what is returned is dropped.
    pub(super) fn spawn<T: Send + 'static>(
        &self,
        call: impl Future<Output = T> + Send + 'static,
    ) -> AbortOnDropHandle<T> {
        let clock = self.clock.clone();
        let call = async move { clock.during(call).await };
        AbortOnDropHandle::new(match &self.runtime {
            Some(runtime) => runtime.spawn(call),
            None => tokio::spawn(call),
        })
    }
}

impl Drop for LongCalls {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// On Linux niceness is a thread's own; elsewhere it would be the whole process's.
#[cfg(target_os = "linux")]
fn lower_priority(niceness: i32) {
    let thread = rustix::thread::gettid();
    if let Err(error) = rustix::process::setpriority_process(Some(thread), niceness) {
        tracing::debug!(%error, "a thread's priority could not be lowered");
    }
}

#[cfg(not(target_os = "linux"))]
fn lower_priority(_: i32) {}
