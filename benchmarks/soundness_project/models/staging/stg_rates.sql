select currency, valid_from, rate, null as remark
from {{ source('bank', 'rates') }}
where rate is not null
