select n from range({{ var('kit_start') }}, {{ var('kit_end') }}) as r(n)
