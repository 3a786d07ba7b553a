/*
 * What the classes of dubcore.hpp are made of, which includes it: errors, calls that throw, owners of handles.
 */

#ifndef DUBCORE_OWNER_HPP
#define DUBCORE_OWNER_HPP

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "dubcore.h"

namespace dubcore {

/** What every failed call throws. */
class Error : public std::runtime_error {
public:
    Error(dub_status status, std::string kind, const std::string &message, std::string hint, bool retryable)
        : std::runtime_error(message), status_(status), kind_(std::move(kind)), hint_(std::move(hint)), retryable_(retryable)
    {
    }

    /** With which a callback fails its call. */
    Error(dub_status status, const std::string &message) : Error(status, "", message, "", false) {}

    dub_status status() const noexcept { return status_; }
    /** The status's name: "busy". */
    const std::string &kind() const noexcept { return kind_; }
    /** What to do about failures of that kind in general. */
    const std::string &hint() const noexcept { return hint_; }
    /** Whether the same call may succeed later. */
    bool retryable() const noexcept { return retryable_; }

private:
    dub_status status_;
    std::string kind_;
    std::string hint_;
    bool retryable_;
};

namespace detail {

struct FreeError {
    void operator()(dub_error *error) const noexcept { dub_error_free(error); }
};

/** Calls a function whose last argument takes the details, and throws where it fails; says how it went otherwise. */
template <class... Parameters, class... Arguments>
dub_status call(dub_status (*function)(Parameters...), Arguments... arguments)
{
    std::unique_ptr<dub_error, FreeError> error(dub_error_new());
    const dub_status status = function(arguments..., error.get());
    if (status != DUB_STATUS_OK && status != DUB_STATUS_END)
        throw Error(status, dub_error_kind(error.get()), dub_error_message(error.get()), dub_error_hint(error.get()),
                    dub_error_retryable(error.get()));
    return status;
}

/** Calls a function with one result, which it gives. */
template <class Value, class Function, class... Arguments> Value ask(Function function, Arguments... arguments)
{
    Value value{};
    call(function, arguments..., &value);
    return value;
}

/** Owns a handle. */
template <class H, dub_status (*Free)(H)> class Owner {
public:
    Owner() noexcept = default;
    explicit Owner(H handle) noexcept : handle_(handle) {}
    Owner(Owner &&other) noexcept : handle_(std::exchange(other.handle_, H{})) {}
    Owner &operator=(Owner &&other) noexcept
    {
        if (this != &other) {
            Free(handle_);
            handle_ = std::exchange(other.handle_, H{});
        }
        return *this;
    }
    Owner(const Owner &) = delete;
    Owner &operator=(const Owner &) = delete;
    ~Owner() { Free(handle_); }

    H get() const noexcept { return handle_; }
    explicit operator bool() const noexcept { return handle_.kind != 0; }

protected:
    H *place() noexcept
    {
        Free(handle_);
        handle_ = H{};
        return &handle_;
    }

private:
    H handle_{};
};

/** Pointers to texts, for as long as the texts live. */
inline std::vector<const char *> pointers(const std::vector<std::string> &texts)
{
    std::vector<const char *> all;
    all.reserve(texts.size());
    for (const std::string &text : texts)
        all.push_back(text.c_str());
    return all;
}

inline const char *text_or_null(const std::optional<std::string> &text) { return text ? text->c_str() : nullptr; }

template <class Object> std::string text_of(Object object, dub_status (*read)(Object, dub_text *, dub_error *))
{
    dub_text text{};
    detail::call(read, object, &text);
    const char *data = nullptr;
    std::size_t length = 0;
    const dub_status status = dub_text_data(text, &data, &length, nullptr);
    std::string copy = status == DUB_STATUS_OK ? std::string(data, length) : std::string();
    dub_text_free(text);
    return copy;
}

/** The callbacks of the host's own, behind `user`. */
template <class Function> void destroy(void *user) { delete static_cast<Function *>(user); }

/** What `work` throws, as a callback tells it. */
template <class Work> std::int32_t answer(dub_reply reply, Work work) noexcept
{
    try {
        work();
        return DUB_STATUS_OK;
    } catch (const Error &e) {
        dub_reply_fail(reply, e.what(), nullptr);
        return e.status() == DUB_STATUS_OK ? DUB_STATUS_INTERNAL : e.status();
    } catch (const std::exception &e) {
        dub_reply_fail(reply, e.what(), nullptr);
    } catch (...) {
        dub_reply_fail(reply, "an exception that says nothing", nullptr);
    }
    return DUB_STATUS_INTERNAL;
}

} // namespace detail

} // namespace dubcore

#endif
