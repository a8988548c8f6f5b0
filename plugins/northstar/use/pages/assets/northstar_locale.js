// The reader's locale, which the server has from the same setting of the browser: what Plotly writes itself are the dates on its axes.
(function () {
  const name = (navigator.languages || [])[0] || navigator.language || "en";
  // English without a country is written as the server does: 12 Mar 2026
  const locale = name.toLowerCase() === "en" ? "en-GB" : name;
  function names(options, dates) {
    const write = new Intl.DateTimeFormat(locale, Object.assign({ timeZone: "UTC", calendar: "gregory", numberingSystem: "latn" }, options));
    return dates.map(function (date) { return write.format(date); });
  }
  const months = Array.from({ length: 12 }, function (_, n) { return new Date(Date.UTC(2026, n, 15)); });
  // 4 January 2026 is a Sunday
  const days = Array.from({ length: 7 }, function (_, n) { return new Date(Date.UTC(2026, 0, 4 + n)); });
  try {
    const dayFirst = names({ day: "numeric", month: "numeric", year: "numeric" }, [new Date(Date.UTC(2026, 11, 25))])[0];
    const format = {
      months: names({ month: "long" }, months), shortMonths: names({ month: "short" }, months), days: names({ weekday: "long" }, days),
      shortDays: names({ weekday: "short" }, days), dateTime: "%x, %X", date: "%Y-%m-%d", time: "%H:%M:%S", periods: ["AM", "PM"], thousands: ",", decimal: ".", grouping: [3], currency: ["", ""],
      year: "%Y", month: "%b %Y", dayMonth: dayFirst.indexOf("25") < dayFirst.indexOf("12") ? "%-d %b" : "%b %-d",
      dayMonthYear: dayFirst.indexOf("25") < dayFirst.indexOf("12") ? "%-d %b %Y" : "%b %-d, %Y",
    };
    const module = { moduleType: "locale", name: "en-US", dictionary: {}, format: format };
    // under the name of the locale that Plotly uses unless it is told another; it reads this when it is loaded
    if (window.Plotly && window.Plotly.register) window.Plotly.register(module);
    else (window.PlotlyLocales = window.PlotlyLocales || []).push(module);
  } catch (error) { /* a name that is no locale: Plotly writes as it does */ }
  window.northstarLocale = locale;
})();
