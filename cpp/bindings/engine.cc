#include "engine.h"

#include <pybind11/stl.h>

#include "arrays.h"
#include "register.h"

namespace py = pybind11;

namespace personaplug {
namespace {

std::unique_ptr<Engine> make(std::shared_ptr<Model> model, int context, int batch, int micro_batch, int threads,
                             int threads_batch, int sequences, std::string cache_type, std::string flash_attention) {
    EngineOptions options;
    options.context = context;
    options.batch = batch;
    options.micro_batch = micro_batch;
    options.threads = threads;
    options.threads_batch = threads_batch;
    options.sequences = sequences;
    options.cache_type = std::move(cache_type);
    options.flash_attention = std::move(flash_attention);
    const py::gil_scoped_release released;
    auto engine = std::make_unique<Engine>(std::move(model), options);
    // Ctrl-C ends score() and logits() between two batches.
    engine->interruption = [] {
        const py::gil_scoped_acquire held;
        if (PyErr_CheckSignals() != 0) {
            throw py::error_already_set();
        }
    };
    return engine;
}

py::dict timings_of(const Engine &engine, int64_t sequence) {
    const Timings timings = [&] {
        const py::gil_scoped_release released;
        return engine.timings(sequence);
    }();
    py::dict result;
    result["prompt_tokens"] = timings.prompt_tokens;
    result["prompt_seconds"] = timings.prompt_seconds;
    result["generated_tokens"] = timings.generated_tokens;
    result["decode_seconds"] = timings.decode_seconds;
    result["first_token_seconds"] = timings.first_token_seconds;
    return result;
}

std::vector<std::vector<float>> score(Engine &engine, const py::object &prompt, const py::sequence &continuations) {
    const Prompt parsed = prompt_of(prompt);
    std::vector<std::vector<int32_t>> tokens;
    for (const py::handle continuation : continuations) {
        tokens.push_back(ids_of(continuation));
    }
    const py::gil_scoped_release released;
    return engine.score(parsed, tokens);
}

py::array_t<float> logits(Engine &engine, const py::object &prompt) {
    const Prompt parsed = prompt_of(prompt);
    std::vector<float> values = [&] {
        const py::gil_scoped_release released;
        return engine.logits(parsed);
    }();
    return matrix_of(std::move(values), parsed.size(), engine.model().tokenizer().size());
}

void register_event(py::module_ &module) {
    py::class_<Event>(module, "Event", "What happened to one sequence in a step.")
        .def_readonly("sequence", &Event::sequence)
        .def_readonly("text", &Event::text, "Whole characters; what could begin a stop string is held back.")
        .def_readonly("tokens", &Event::tokens)
        .def_readonly("logprobs", &Event::logprobs, "One a token, when asked for.")
        .def_readonly("top", &Event::top, "A list of (id, log-probability) a token, likeliest first, when asked for.")
        .def_property_readonly(
            "finish", [](const Event &event) { return event.finish; },
            "\"\" while it goes on, else end, length, stop or cancelled.");
}

} // namespace

void register_engine(py::module_ &module) {
    using released = py::call_guard<py::gil_scoped_release>;
    register_event(module);
    py::class_<Engine>(module, "Engine", "Many requests over one llama.cpp context. Thread-safe: methods take turns.",
                       py::release_gil_before_calling_cpp_dtor())
        .def(py::init(&make), py::arg("model"), py::kw_only(), py::arg("context") = 0, py::arg("batch") = 512,
             py::arg("micro_batch") = 512, py::arg("threads") = 0, py::arg("threads_batch") = 0,
             py::arg("sequences") = 1, py::arg("cache_type") = "f16", py::arg("flash_attention") = "auto",
             "context: positions of one sequence (0: the model's own). Raises EngineError, ModelError.")
        .def_property_readonly("single_pass", &Engine::single_pass)
        .def_property_readonly("context", &Engine::context)
        .def_property_readonly("sequences", &Engine::sequences)
        .def_property_readonly(
            "live",
            [](const Engine &engine) {
                const py::gil_scoped_release free;
                return engine.live();
            },
            "Sequences queued or running.")
        .def(
            "submit",
            [](Engine &engine, const py::object &prompt, const py::object &sampling) {
                Prompt parsed = prompt_of(prompt);
                const SamplingOptions options = sampling_of(sampling);
                const py::gil_scoped_release free;
                return engine.submit(std::move(parsed), options);
            },
            py::arg("prompt"), py::arg("sampling"),
            "Queues a request. Raises PromptError, DimensionError, ContextFullError, SamplingError, GrammarError.")
        .def("step", &Engine::step, released(),
             "One round over all sequences: its events, [] when idle. Raises EngineError.")
        .def("is_live", &Engine::is_live, released(), py::arg("sequence"),
             "Whether it is queued, running, or has events that the next step gives.")
        .def("timings", &timings_of, py::arg("sequence"), "Seconds and counts of a sequence. Raises PromptError.")
        .def("cancel", &Engine::cancel, released(), py::arg("sequence"),
             "Ends a sequence; its event comes with the next step.")
        .def("reset", &Engine::reset, released(), "Drops all sequences and the cache.")
        .def("score", &score, py::arg("prompt"), py::arg("continuations"),
             "log p of each token of each continuation after the prompt, exact.")
        .def("logits", &logits, py::arg("prompt"), "Logits after each position, float32 (positions, vocabulary).");
}

} // namespace personaplug
