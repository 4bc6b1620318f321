select
    {% if execute %}
    {% for column in adapter.get_columns_in_relation(ref('stg_products')) %}
    {% if column.name != 'tag_list' %}p.{{ column.name }} as p_{{ column.name }},{% endif %}
    {% endfor %}
    {% endif %}
    1 as one
from {{ ref('stg_products') }} as p
