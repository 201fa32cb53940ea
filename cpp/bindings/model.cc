#include "model.h"

#include <pybind11/functional.h>
#include <pybind11/stl.h>

#include "arrays.h"
#include "error.h"
#include "register.h"

namespace py = pybind11;

namespace personaplug {
namespace {

// The GIL is free while the file loads; the progress callback takes it, and an exception from it is raised after.
std::shared_ptr<Model> load(const std::string &path, int gpu_layers, std::optional<bool> mmap,
                            const py::object &progress) {
    ModelOptions options;
    options.gpu_layers = gpu_layers;
    options.mmap = mmap;
    std::exception_ptr raised;
    if (!progress.is_none()) {
        options.progress = [&](float value) {
            const py::gil_scoped_acquire held;
            try {
                const py::object answer = progress(value);
                return answer.is_none() || py::cast<bool>(py::bool_(answer));
            } catch (...) {
                raised = std::current_exception();
                return false;
            }
        };
    }
    try {
        const py::gil_scoped_release released;
        // Python sees no method that changes a model.
        return std::const_pointer_cast<Model>(Model::load(path, options));
    } catch (const CancelledError &) {
        if (raised) {
            std::rethrow_exception(raised);
        }
        throw;
    }
}

} // namespace

void register_model(py::module_ &module) {
    py::class_<Model, std::shared_ptr<Model>>(module, "Model",
                                              "A loaded LLM: weights, tokenizer, token table. Thread-safe.",
                                              py::release_gil_before_calling_cpp_dtor())
        .def(py::init(&load), py::arg("path"), py::kw_only(), py::arg("gpu_layers") = 0, py::arg("mmap") = py::none(),
             py::arg("progress") = py::none(),
             "Loads a GGUF file. progress(0 to 1) may return False to cancel. Raises ModelError, CancelledError.")
        .def_property_readonly("architecture", &Model::architecture)
        .def_property_readonly("description", &Model::description)
        .def_property_readonly("embedding_width", &Model::embedding_width)
        .def_property_readonly("vocabulary_size", [](const Model &model) { return model.tokenizer().size(); })
        .def_property_readonly("layer_count", &Model::layer_count)
        .def_property_readonly("train_context", &Model::train_context)
        .def_property_readonly("parameter_count", &Model::parameter_count)
        .def_property_readonly("size_bytes", &Model::size_bytes)
        .def_property_readonly("bos", [](const Model &model) { return model.tokenizer().bos(); })
        .def_property_readonly("eos", [](const Model &model) { return model.tokenizer().eos(); })
        .def_property_readonly("adds_bos", [](const Model &model) { return model.tokenizer().adds_bos(); })
        .def_property_readonly("is_mapped", &Model::is_mapped)
        .def(
            "tokenize",
            [](const Model &model, const py::str &text, bool add_special, bool parse_special) {
                const std::string bytes = utf8_of(text);
                const py::gil_scoped_release free;
                return model.tokenizer().tokenize(bytes, add_special, parse_special);
            },
            py::arg("text"), py::kw_only(), py::arg("add_special") = false, py::arg("parse_special") = false,
            "Token ids of a text. Raises TextError.")
        .def(
            "detokenize",
            [](const Model &model, const py::object &ids) {
                return py::bytes(model.tokenizer().detokenize(ids_of(ids)));
            },
            py::arg("ids"), "The bytes of a list of token ids; not always UTF-8. Raises PromptError.")
        .def(
            "piece",
            [](const Model &model, int64_t id) {
                model.tokenizer().check(id);
                return py::bytes(model.tokenizer().piece(static_cast<int32_t>(id), true));
            },
            py::arg("id"), "The bytes of one token, control tokens by name. Raises PromptError.")
        .def(
            "vocabulary",
            [](const Model &model) {
                py::list entries(model.tokenizer().size());
                for (int32_t id = 0; id < model.tokenizer().size(); ++id) {
                    entries[id] = py::bytes(model.tokenizer().entry(id));
                }
                return entries;
            },
            "Every entry as the file writes it (tokenizer.ggml.tokens), in order of id, as bytes.")
        .def(
            "is_end",
            [](const Model &model, int64_t id) {
                model.tokenizer().check(id);
                return model.tokenizer().is_end(static_cast<int32_t>(id));
            },
            py::arg("id"), "Whether the token ends an answer. Raises PromptError.")
        .def(
            "embedding_rows",
            [](const Model &model, const py::object &ids) {
                const auto tokens = ids_of(ids);
                return matrix_of(model.embedding_rows(tokens), static_cast<py::ssize_t>(tokens.size()),
                                 model.embedding_width());
            },
            py::arg("ids"),
            "Rows of the token table, float32 (ids, embedding_width), dequantized. Raises PromptError, ModelError.");
}

} // namespace personaplug
