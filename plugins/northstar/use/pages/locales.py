"""What the pages show in the locale of the reader's browser (Accept-Language), and files in none."""

from flask import Flask, Response, request

from northstar.base.locales import choose_locale, write_in

# what programs read
FILES = "/take/"


def obey_locale(server: Flask, default: str | None) -> None:
    """Have each request answered in the locale that it asks for. default: that of who asks for none."""

    @server.before_request
    def _choose_locale() -> None:
        is_file = request.path.startswith(FILES)
        write_in(None if is_file else choose_locale(request.accept_languages.values(), default))

    @server.after_request
    def _tell_caches(response: Response) -> Response:
        response.vary.add("Accept-Language")
        return response

    @server.teardown_request
    def _forget_locale(_: BaseException | None) -> None:
        # the thread answers others next
        write_in(None)
