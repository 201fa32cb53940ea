#include "gguf_file.h"

#include <cstdio>
#include <filesystem>

#include "error.h"
#include "log.h"

namespace personaplug {
namespace {

namespace fs = std::filesystem;

uint64_t readable_size(const std::string &path) {
    std::error_code failure;
    const auto status = fs::status(path, failure);
    if (!fs::exists(status)) {
        throw ModelError("no such file: " + path + "; expected a GGUF file");
    }
    if (!fs::is_regular_file(status)) {
        throw ModelError("not a file: " + path + (fs::is_directory(status) ? " is a folder" : "") +
                         "; expected a GGUF file");
    }
    const uint64_t size = fs::file_size(path, failure);
    if (failure) {
        throw ModelError("cannot read " + path + ": " + failure.message());
    }
    char magic[4] = {};
    std::FILE *file = std::fopen(path.c_str(), "rb");
    if (file == nullptr) {
        throw ModelError("cannot open " + path + "; check its permissions");
    }
    const size_t got = std::fread(magic, 1, sizeof(magic), file);
    std::fclose(file);
    if (got < sizeof(magic) || std::string(magic, 4) != GGUF_MAGIC) {
        throw ModelError(path + " is not a GGUF file: expected it to begin with \"GGUF\", " +
                         (size == 0 ? "it is empty" : "it does not") + "; convert the model with personaplug-export");
    }
    return size;
}

} // namespace

GgufFile::GgufFile(const std::string &path) : path_(path) {
    const uint64_t size = readable_size(path);
    clear_log();
    gguf_init_params params{};
    params.no_alloc = true;
    try {
        context_.reset(gguf_init_from_file(path.c_str(), params));
    } catch (const std::exception &failure) {
        throw ModelError(path + " is damaged: " + failure.what());
    }
    if (!context_) {
        throw ModelError(path + " is damaged or cut short (" + std::to_string(size) +
                         " bytes): " + logged_errors("its header cannot be read") + "; fetch the file again");
    }
    check_bounds(size);
}

void GgufFile::check_bounds(uint64_t file_size) const {
    const uint64_t start = gguf_get_data_offset(context_.get());
    for (int64_t i = 0; i < gguf_get_n_tensors(context_.get()); ++i) {
        const uint64_t offset = gguf_get_tensor_offset(context_.get(), i);
        const uint64_t size = gguf_get_tensor_size(context_.get(), i);
        if (start > file_size || offset > file_size - start || size > file_size - start - offset) {
            throw ModelError(path_ + " is cut short: tensor " + gguf_get_tensor_name(context_.get(), i) +
                             " ends at byte " + std::to_string(start + offset + size) + ", the file has " +
                             std::to_string(file_size) + "; fetch the file again");
        }
    }
}

std::string GgufFile::text(const std::string &key) const {
    const int64_t id = gguf_find_key(context_.get(), key.c_str());
    return id >= 0 && gguf_get_kv_type(context_.get(), id) == GGUF_TYPE_STRING ? gguf_get_val_str(context_.get(), id)
                                                                               : "";
}

std::optional<int64_t> GgufFile::number(const std::string &key) const {
    const int64_t id = gguf_find_key(context_.get(), key.c_str());
    if (id < 0) {
        return std::nullopt;
    }
    switch (gguf_get_kv_type(context_.get(), id)) {
    case GGUF_TYPE_UINT32:
        return gguf_get_val_u32(context_.get(), id);
    case GGUF_TYPE_INT32:
        return gguf_get_val_i32(context_.get(), id);
    case GGUF_TYPE_UINT64:
        return static_cast<int64_t>(gguf_get_val_u64(context_.get(), id));
    case GGUF_TYPE_INT64:
        return gguf_get_val_i64(context_.get(), id);
    default:
        return std::nullopt;
    }
}

std::optional<bool> GgufFile::flag(const std::string &key) const {
    const int64_t id = gguf_find_key(context_.get(), key.c_str());
    if (id < 0 || gguf_get_kv_type(context_.get(), id) != GGUF_TYPE_BOOL) {
        return std::nullopt;
    }
    return gguf_get_val_bool(context_.get(), id);
}

std::optional<double> GgufFile::real(const std::string &key) const {
    const int64_t id = gguf_find_key(context_.get(), key.c_str());
    if (id < 0 || gguf_get_kv_type(context_.get(), id) != GGUF_TYPE_FLOAT32) {
        return std::nullopt;
    }
    return gguf_get_val_f32(context_.get(), id);
}

bool GgufFile::has(const std::string &key) const { return gguf_find_key(context_.get(), key.c_str()) >= 0; }

std::vector<std::string> GgufFile::texts(const std::string &key) const {
    const int64_t id = gguf_find_key(context_.get(), key.c_str());
    std::vector<std::string> entries;
    if (id >= 0 && gguf_get_kv_type(context_.get(), id) == GGUF_TYPE_ARRAY &&
        gguf_get_arr_type(context_.get(), id) == GGUF_TYPE_STRING) {
        for (size_t i = 0; i < gguf_get_arr_n(context_.get(), id); ++i) {
            entries.emplace_back(gguf_get_arr_str(context_.get(), id, i));
        }
    }
    return entries;
}

std::optional<GgufFile::Tensor> GgufFile::tensor(const std::string &name) const {
    const int64_t id = gguf_find_tensor(context_.get(), name.c_str());
    if (id < 0) {
        return std::nullopt;
    }
    const int64_t *shape = gguf_get_tensor_ne(context_.get(), id);
    return Tensor{gguf_get_tensor_type(context_.get(), id),
                  shape[0],
                  shape[1] * shape[2] * shape[3],
                  gguf_get_data_offset(context_.get()) + gguf_get_tensor_offset(context_.get(), id),
                  gguf_get_tensor_size(context_.get(), id),
                  shape[2] == 1 && shape[3] == 1};
}

std::vector<std::string> GgufFile::tensor_names() const {
    std::vector<std::string> names;
    for (int64_t i = 0; i < gguf_get_n_tensors(context_.get()); ++i) {
        names.emplace_back(gguf_get_tensor_name(context_.get(), i));
    }
    return names;
}

std::string file_stamp(const std::string &path) {
    std::error_code error;
    const auto file = std::filesystem::u8path(path);
    const auto size = std::filesystem::file_size(file, error);
    const auto time = error ? std::filesystem::file_time_type() : std::filesystem::last_write_time(file, error);
    return error ? "" : std::to_string(size) + " " + std::to_string(time.time_since_epoch().count());
}

} // namespace personaplug
