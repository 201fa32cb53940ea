#include "arrays.h"

#include <algorithm>
#include <limits>

#include "error.h"

namespace py = pybind11;

namespace personaplug {
namespace {

int64_t integer(const py::handle &value, const char *what) {
    const py::object index = py::reinterpret_steal<py::object>(PyNumber_Index(value.ptr()));
    int overflow = 0;
    const long long number = index ? PyLong_AsLongLongAndOverflow(index.ptr(), &overflow) : 0;
    if (!index || overflow != 0) {
        PyErr_Clear();
        const std::string type = py::str(py::type::handle_of(value).attr("__name__"));
        throw PromptError(std::string(what) + " must be an integer of 32 bits, got " +
                          (overflow != 0 ? "a larger one" : "a value of type " + type));
    }
    return number;
}

int32_t id_of(const py::handle &value) {
    const int64_t id = integer(value, "a token id");
    if (id < std::numeric_limits<int32_t>::min() || id > std::numeric_limits<int32_t>::max()) {
        throw PromptError("token id " + std::to_string(id) + " is outside any vocabulary");
    }
    return static_cast<int32_t>(id);
}

void add_rows(Prompt &prompt, const py::array &rows) {
    const std::string shape = py::str(rows.attr("shape"));
    if (!py::dtype::of<float>().is(rows.dtype()) && !rows.dtype().equal(py::dtype::of<float>())) {
        throw DimensionError("rows must be float32, got " + std::string(py::str(rows.dtype())));
    }
    if (rows.ndim() != 2) {
        throw DimensionError("rows must have the shape (rows, embedding width), got " + shape);
    }
    if ((rows.flags() & py::array::c_style) == 0) {
        throw DimensionError("rows of shape " + shape + " must be C-contiguous; pass numpy.ascontiguousarray(rows)");
    }
    if (rows.shape(0) == 0) {
        return;
    }
    const float *data = static_cast<const float *>(rows.data());
    prompt.add_rows(std::vector<float>(data, data + rows.size()), rows.shape(0), rows.shape(1));
}

template <typename T> T number(const py::handle &sampling, const char *name) {
    const py::object value = sampling.attr(name);
    if (!PyNumber_Check(value.ptr())) {
        throw SamplingError(std::string(name) + " must be a number, got " +
                            std::string(py::str(py::type::handle_of(value).attr("__name__"))));
    }
    if constexpr (std::is_floating_point_v<T>) {
        return static_cast<T>(PyFloat_AsDouble(value.ptr()));
    } else {
        int64_t result = 0;
        try {
            result = integer(value, name);
        } catch (const PromptError &error) {
            throw SamplingError(error.what());
        }
        if (result < std::numeric_limits<T>::min() || result > std::numeric_limits<T>::max()) {
            throw SamplingError(std::string(name) + " is out of range: " + std::to_string(result));
        }
        return static_cast<T>(result);
    }
}

std::string text_of(const py::handle &value, const char *name) {
    if (!py::isinstance<py::str>(value)) {
        throw SamplingError(std::string(name) + " must be a str");
    }
    try {
        return utf8_of(py::reinterpret_borrow<py::str>(value));
    } catch (const TextError &error) {
        throw SamplingError(std::string(name) + ": " + error.what());
    }
}

std::vector<std::string> stops_of(const py::handle &stop) {
    if (py::isinstance<py::str>(stop)) {
        throw SamplingError("stop must be a tuple of str, got one str");
    }
    if (!py::isinstance<py::iterable>(stop)) {
        throw SamplingError("stop must be a tuple of str, got " + std::string(py::repr(stop)));
    }
    std::vector<std::string> texts;
    for (const py::handle text : stop) {
        texts.push_back(text_of(text, "a stop string"));
    }
    return texts;
}

BeamOptions::Early early_stopping_of(const py::handle &value) {
    if (py::isinstance<py::bool_>(value)) {
        return py::cast<bool>(value) ? BeamOptions::Early::yes : BeamOptions::Early::no;
    }
    if (py::isinstance<py::str>(value) && text_of(value, "early_stopping") == "never") {
        return BeamOptions::Early::never;
    }
    throw SamplingError("early_stopping must be False, True or \"never\", got " + std::string(py::repr(value)));
}

} // namespace

std::string utf8_of(const py::str &text) {
    py::ssize_t length = 0;
    const char *bytes = PyUnicode_AsUTF8AndSize(text.ptr(), &length);
    if (bytes == nullptr) {
        PyErr_Clear();
        throw TextError("text holds a lone surrogate and has no UTF-8 form; expected valid Unicode");
    }
    return std::string(bytes, static_cast<size_t>(length));
}

std::vector<int32_t> ids_of(const py::handle &ids) {
    if (py::isinstance<py::array>(ids)) {
        const auto kind = py::reinterpret_borrow<py::array>(ids).dtype().kind();
        if (kind != 'i' && kind != 'u') {
            throw PromptError("token ids must be integers, got an array of " + std::string(py::str(ids.attr("dtype"))));
        }
    } else if (!py::isinstance<py::sequence>(ids) || py::isinstance<py::str>(ids)) {
        throw PromptError("token ids must be a list of integers, got " +
                          std::string(py::str(py::type::handle_of(ids).attr("__name__"))));
    }
    std::vector<int32_t> result;
    result.reserve(py::len(ids));
    for (const py::handle id : ids) {
        result.push_back(id_of(id));
    }
    return result;
}

Prompt prompt_of(const py::handle &prompt) {
    if (!py::hasattr(prompt, "spans")) {
        throw PromptError("expected a Prompt, got " +
                          std::string(py::str(py::type::handle_of(prompt).attr("__name__"))));
    }
    Prompt result;
    for (const py::handle span : prompt.attr("spans")) {
        if (py::isinstance<py::array>(span)) {
            const auto array = py::reinterpret_borrow<py::array>(span);
            const auto kind = array.dtype().kind();
            if (array.ndim() == 1 && (kind == 'i' || kind == 'u')) {
                result.add_tokens(ids_of(span));
            } else {
                add_rows(result, array);
            }
        } else {
            result.add_tokens(ids_of(span));
        }
    }
    return result;
}

SamplingOptions sampling_of(const py::handle &sampling) {
    SamplingOptions options;
    options.max_tokens = number<int>(sampling, "max_tokens");
    options.temperature = number<float>(sampling, "temperature");
    options.top_k = number<int>(sampling, "top_k");
    options.top_p = number<float>(sampling, "top_p");
    options.min_p = number<float>(sampling, "min_p");
    options.repetition_penalty = number<float>(sampling, "repetition_penalty");
    options.presence_penalty = number<float>(sampling, "presence_penalty");
    options.frequency_penalty = number<float>(sampling, "frequency_penalty");
    options.penalty_window = number<int>(sampling, "penalty_window");
    options.logprobs = number<int>(sampling, "logprobs");
    options.ignore_end = py::cast<bool>(py::bool_(sampling.attr("ignore_end")));
    if (!sampling.attr("seed").is_none()) {
        options.seed = number<uint32_t>(sampling, "seed");
    }
    for (const py::handle pair : sampling.attr("logit_bias").attr("items")()) {
        const auto entry = py::reinterpret_borrow<py::tuple>(pair);
        const double bias = PyFloat_AsDouble(entry[1].ptr());
        if (PyErr_Occurred() != nullptr) {
            PyErr_Clear();
            throw SamplingError("a value of logit_bias must be a number, got " + std::string(py::repr(entry[1])));
        }
        options.logit_bias.emplace_back(id_of(entry[0]), static_cast<float>(bias));
    }
    options.grammar = text_of(sampling.attr("grammar"), "grammar");
    options.stop = stops_of(sampling.attr("stop"));
    if (PyErr_Occurred() != nullptr) {
        throw py::error_already_set();
    }
    return options;
}

BeamOptions beams_of(const py::handle &beams) {
    if (!py::hasattr(beams, "length_penalty")) {
        throw SamplingError("expected Beams, got " + std::string(py::str(py::type::handle_of(beams).attr("__name__"))) +
                            ": a beam search takes no grammar, penalties or temperature");
    }
    BeamOptions options;
    options.beams = number<int>(beams, "beams");
    options.max_tokens = number<int>(beams, "max_tokens");
    options.length_penalty = number<double>(beams, "length_penalty");
    options.early_stopping = early_stopping_of(beams.attr("early_stopping"));
    options.returned = number<int>(beams, "returned");
    options.stop = stops_of(beams.attr("stop"));
    if (PyErr_Occurred() != nullptr) {
        throw py::error_already_set();
    }
    return options;
}

RequestOptions options_of(const py::handle &options) {
    RequestOptions result;
    if (options.is_none()) {
        return result;
    }
    if (!py::hasattr(options, "keep_answer")) {
        throw PromptError("expected a RequestOptions, got " +
                          std::string(py::str(py::type::handle_of(options).attr("__name__"))));
    }
    const auto whole = [&](const char *name) {
        const int64_t value = integer(options.attr(name), name);
        if (value < std::numeric_limits<int>::min() || value > std::numeric_limits<int>::max()) {
            throw PromptError(std::string(name) + " is out of range: " + std::to_string(value));
        }
        return static_cast<int>(value);
    };
    const py::object owner = options.attr("owner");
    if (!py::isinstance<py::str>(owner)) {
        throw PromptError("owner must be a str");
    }
    result.owner = owner_of(owner);
    const py::object adapter = py::getattr(options, "adapter", py::str());
    if (!py::isinstance<py::str>(adapter)) {
        throw PromptError("adapter must be a str: a name that was given to add_adapter, or a path");
    }
    result.adapter = utf8_of(adapter);
    if (!py::isinstance<py::sequence>(options.attr("keep")) || py::isinstance<py::str>(options.attr("keep"))) {
        throw PromptError("keep must be a tuple of prompt lengths");
    }
    for (const py::handle length : options.attr("keep")) {
        const int64_t value = integer(length, "a length of keep");
        result.keep.push_back(static_cast<int>(std::clamp<int64_t>(value, -1, std::numeric_limits<int>::max())));
    }
    result.common = whole("common");
    result.keep_answer = py::cast<bool>(py::bool_(options.attr("keep_answer")));
    const py::object deadline = options.attr("deadline");
    if (!deadline.is_none()) {
        if (!PyFloat_Check(deadline.ptr()) && !PyLong_Check(deadline.ptr())) {
            throw PromptError("deadline must be a number of seconds, or None");
        }
        result.deadline = PyFloat_AsDouble(deadline.ptr());
        if (PyErr_Occurred() != nullptr) { // an int that no double holds
            PyErr_Clear();
            throw PromptError("deadline must be a finite number of seconds");
        }
    }
    result.slide = py::cast<bool>(py::bool_(options.attr("slide")));
    result.protect = whole("protect");
    return result;
}

std::string owner_of(const py::str &owner) {
    try {
        return utf8_of(owner);
    } catch (const TextError &error) {
        throw PromptError(std::string("owner: ") + error.what());
    }
}

py::dict dict_of(const Timings &timings) {
    py::dict result;
    result["prompt_tokens"] = timings.prompt_tokens;
    result["reused_tokens"] = timings.reused_tokens;
    result["prompt_seconds"] = timings.prompt_seconds;
    result["generated_tokens"] = timings.generated_tokens;
    result["decode_seconds"] = timings.decode_seconds;
    result["first_token_seconds"] = timings.first_token_seconds;
    return result;
}

py::array_t<float> matrix_of(std::vector<float> values, py::ssize_t rows, py::ssize_t columns) {
    auto *kept = new std::vector<float>(std::move(values));
    const py::capsule owner(kept, [](void *data) { delete static_cast<std::vector<float> *>(data); });
    return py::array_t<float>({rows, columns}, kept->data(), owner);
}

} // namespace personaplug
